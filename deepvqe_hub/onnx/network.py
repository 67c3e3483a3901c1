"""The graph of one streaming step of DeepVQE, written from the modules and their weights.

Layout: a feature map is a matrix, a row for each (frame, stream, bin) and a column for each channel, so that every
convolution is one matrix product. The last frames stand in a ring of such rows, which a call overwrites where it is
oldest, in place: nothing moves. A last row of zeros stands for everything off the frequency axis, and one Gather picks
all rows that an output sees, or their values one by one where rows are short. Its indices are constants, a table for
each place in the ring; stride and padding are in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import nn

from deepvqe_hub.models.align import AlignBlock
from deepvqe_hub.models.causal import CausalConv2d, SubpixelConv2d
from deepvqe_hub.models.deepvqe import DeepVQE
from deepvqe_hub.models.mask import ComplexConvolvingMask
from deepvqe_hub.onnx.builder import Graph
from deepvqe_hub.onnx.tables import (
    MASK_TAPS,
    mask_weights,
    out_of_reach,
    patch_rows,
    subpixel_rows,
    tap_values,
    tap_weights,
)

NARROW = 8  # channels up to which picking values takes less time than picking rows of them


@dataclass
class StepWriter:
    """Writes a network's modules into `graph`, for `frames` frames a call of `batch` streams."""

    graph: Graph
    network: DeepVQE
    """From `for_inference`, without batch norms."""
    batch: int = 1
    frames: int = 1
    quantize: bool = False
    places: int = field(init=False)
    """Calls after which rings are full: their length is a multiple of a call's frames, at least what is looked at."""

    def __post_init__(self):
        taps = max(m.kernel_size[0] for m in self.network.modules() if isinstance(m, CausalConv2d))
        self.places = -(-(max(taps, MASK_TAPS) - 1) // self.frames) + 1
        self._chosen, self._place = {}, self.clock("place", self.places)

    def clock(self, name: str, places: int) -> str:
        """A state that counts calls and starts anew after `places` of them; returns what it says now, a scalar."""
        g = self.graph
        place = g.remember(name, (1,), np.int64)
        following = g.op("Add", place, g.constant([1], np.int64))
        g.update(name, g.op("Mod", following, g.constant([places], np.int64)))
        return g.reshape(place)

    def here(self, tables: np.ndarray, place: str = "") -> str:
        """The one of `tables`, (places, ...), for this call's place, which is the rings' if none is given."""
        g, tables = self.graph, self.graph.constant(tables)
        key = tables, place or self._place
        if key not in self._chosen:
            self._chosen[key] = g.op("Gather", *key, axis=0)
        return self._chosen[key]

    def conv(self, x: str, conv: CausalConv2d, exact: bool = False) -> str:
        """A causal convolution: (T * B * F, C) -> (T * B * F', C'); in float32 if `exact`, also in an 8-bit graph."""
        g = self.graph
        weight = conv.weight.detach().numpy().transpose(2, 3, 1, 0).reshape(-1, conv.out_channels)
        bias = conv.bias.detach().numpy()
        x = self.ring(f"{conv.key}.past", x, conv.bins, conv.in_channels)
        x, *scale = g.quantize(x) if self.quantize and not exact else [x]
        x = self.patches(x, conv.bins, conv.in_channels, conv.kernel_size, conv.stride[1])
        x = g.reshape(x, -1, len(weight))
        return g.linear8((x, *scale), weight, bias) if scale else g.linear(x, weight, bias)

    def ring(self, name: str, x: str, bins: int, channels: int) -> str:
        """Put `x`, (T * B * F, C), into the ring `name`; returns the ring."""
        g, size = self.graph, self.places * self.frames * self.batch * bins
        ring = g.remember(name, (size + 1, channels), in_place=True)
        return g.update(name, g.op("ScatterND", ring, self.here(np.arange(size).reshape(self.places, -1, 1)), x))

    def patches(self, ring: str, bins: int, channels: int, kernel: tuple[int, int], stride: int = 1) -> str:
        """What each output of a convolution sees of a ring: values in the order (T, B, F', taps, width, C)."""
        g, zeros = self.graph, self.places * self.frames * self.batch * bins
        rows = patch_rows(self.places, self.frames, self.batch, bins, kernel, stride)
        if channels > NARROW:
            return g.op("Gather", ring, self.of_all_streams(rows, bins, zeros), axis=0)
        values = rows[..., None] * channels + np.arange(channels)
        values = self.of_all_streams(values.reshape(*rows.shape[:-1], -1), bins * channels, zeros * channels)
        return g.op("GatherElements", g.reshape(ring, -1), g.reshape(values, -1))

    def of_all_streams(self, tables: np.ndarray, step: int, zeros: int) -> str:
        """`here` of indices for the first stream, (places, T, 1, ...), for all of them, (T, B, ...).

        Each stream's lie `step` after the last one's, up to `zeros`, where zeros stand.
        """
        g, indices = self.graph, self.here(tables.astype(np.int32))
        if self.batch > 1:
            steps = np.arange(self.batch)[:, None, None] * step
            indices = g.op("Add", indices, g.constant(steps, np.int32))
            indices = g.op("Min", indices, g.constant(zeros, np.int32))
        return indices

    def product(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """A linear layer on rows: (n, K) -> (n, N)."""
        g = self.graph
        return g.linear8(g.quantize(x), weight, bias) if self.quantize else g.linear(x, weight, bias)

    def elu(self, x: str) -> str:
        """ELU in operators that onnxruntime has vector code for; its own Elu takes twice their time."""
        g = self.graph
        below = g.op("Exp", g.op("Min", x, g.constant(0, np.float32)))
        return g.op("Max", x, g.op("Add", below, g.constant(-1, np.float32)))

    def residual(self, x: str, block) -> str:
        """(T * B * F, C) -> (T * B * F, C)."""
        if block is None:
            return x
        return self.graph.op("Add", self.elu(self.conv(x, block.conv)), x)

    def encoder(self, x: str, block) -> str:
        # The spectrum itself has too wide a range for 8 bits, and its layer is a hundredth of the work.
        x = self.elu(self.conv(x, block.conv, exact=block.conv.in_channels == 2))
        return self.residual(x, block.resblock)

    def bottleneck(self, x: str, block) -> str:
        """GRU and linear layer; the weights' inputs and outputs are reordered from channel-major to bin-major."""
        g, gru = self.graph, block.gru
        hidden, size = gru.hidden_size, gru.input_size
        order = np.arange(size).reshape(block.channels, block.bins).T.ravel()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_in, w_hidden, b_in, b_hidden = (getattr(gru, name).detach().numpy() for name in names)
        x = self.product(g.reshape(x, self.frames * self.batch, size), w_in[:, order].T, b_in)
        inputs = g.op("Split", x, outputs=self.frames, num_outputs=self.frames) if self.frames > 1 else [x]
        state = g.remember(f"{gru.key}.hidden", (self.batch, hidden))
        outputs = []
        for now in inputs:
            y = self.product(state, w_hidden.T, b_hidden)
            parts = [g.constant([2 * hidden, hidden], np.int64)]
            gates_x, new_x = g.op("Split", now, *parts, outputs=2, axis=1)
            gates_h, new_h = g.op("Split", y, *parts, outputs=2, axis=1)
            gates = g.op("Sigmoid", g.op("Add", gates_x, gates_h))
            reset, keep = g.op("Split", gates, g.constant([hidden, hidden], np.int64), outputs=2, axis=1)
            new = g.op("Tanh", g.op("Add", new_x, g.op("Mul", reset, new_h)))
            state = g.op("Add", new, g.op("Mul", keep, g.op("Sub", state, new)))
            outputs.append(state)
        outputs[-1] = g.update(f"{gru.key}.hidden", state)
        y = outputs[0] if self.frames == 1 else g.op("Concat", *outputs, axis=0)
        y = self.product(y, block.fc.weight.detach().numpy()[order].T, block.fc.bias.detach().numpy()[order])
        return g.reshape(y, -1, block.channels)

    def decoder(self, x: str, skip: str, block) -> str:
        g, conv = self.graph, block.deconv.conv
        x = g.op("Add", x, self.pointwise(skip, block.skip_conv))
        x = self.residual(x, block.resblock)
        # In the last layer the steps of 8 bits would be heard where the mask should be silent.
        x = self.conv(x, conv, exact=not block.activation)
        x = self.elu(x) if block.activation else x
        x = g.reshape(x, -1, conv.out_channels // 2)  # rows (frame, stream, bin, group)
        rows = subpixel_rows(self.frames * self.batch, conv.bins, block.deconv)
        return g.op("Gather", x, g.constant(rows, np.int64), axis=0)

    def features(self, spec: str) -> str:
        """Power-law compression: (T * B * F, 2) -> (T * B * F, 2)."""
        g = self.graph
        power = g.op("ReduceSum", g.op("Mul", spec, spec), g.constant([1], np.int64))
        power = g.op("Add", power, g.constant(1e-12, np.float32))
        return g.op("Mul", spec, g.op("Pow", power, g.constant((self.network.compression - 1) / 2, np.float32)))

    def mask(self, mask: str, spec: str, bins: int, channels: int) -> str:
        """The complex convolving mask: its channels and spectra, (T * B * F, .) -> (T * B * F, 2)."""
        g, weights = self.graph, mask_weights(channels)
        taps = self.patches(self.ring(f"{self.network.ccm.key}.past", spec, bins, 2), bins, 2, (MASK_TAPS, MASK_TAPS))
        numbers = 2 * MASK_TAPS**2
        x = g.op("Mul", g.reshape(g.linear(mask, weights), -1, 2, numbers), g.reshape(taps, -1, 1, numbers))
        return g.op("ReduceSum", x, g.constant([2], np.int64), keepdims=0)

    def align(self, mic: str, far: str, block: AlignBlock) -> str:
        """The microphone's features and the aligned far end's: two (T * B * F, .) -> (T * B * F, C_mic + C_far).

        The past is kept in rings of L frames, a multiple of T, of which a call overwrites T: nothing moves, so that the
        cost of a frame is the arithmetic. All goes by slot of the ring, not by delay; a softmax does not mind.
        """
        g, b, t = self.graph, self.batch, self.frames
        hidden, bins, width, dmax = block.hidden, block.bins, block.bins * block.far_channels, block.dmax
        taps = block.conv.kernel_size[0]
        places = -(-(max(dmax, taps) + t - 1) // t)
        ring, place = places * t, self.clock(f"{block.key}.place", places)

        queries = self.pointwise_channels_first(mic, block.pconv_mic, bins**-0.5)
        queries = g.permute(queries, (hidden, t, b, bins), (2, 0, 3, 1))
        keys = self.pointwise_channels_first(far, block.pconv_ref)
        keys = g.permute(keys, (hidden, t, b, bins), (2, 0, 1, 3))
        keys = self.into_ring(f"{block.key}.keys", keys, place, (b, hidden), ring, bins)
        similarity = g.permute(g.op("MatMul", keys, queries), (b, hidden, ring, t), (0, 1, 3, 2))

        # The convolution over frames and delays: first its products over channels, which the ring keeps, then its sum
        # over taps. Its bias would be the same for all delays.
        weight = tap_weights(block)
        products = g.op("MatMul", g.constant(weight), g.reshape(similarity, b, hidden, t * ring))
        products = g.permute(products, (b, len(weight), t, ring), (0, 2, 1, 3))
        products = self.into_ring(f"{block.key}.similarity", products, place, (b,), ring, len(weight) * ring)
        values = self.here(tap_values(places, t, block, len(weight)).reshape(places, 1, -1), place)
        values = g.op("Expand", values, g.constant([b, 1], np.int64)) if b > 1 else values
        products = g.op("GatherElements", g.reshape(products, b, -1), values, axis=1)
        scores = g.op("ReduceSum", g.reshape(products, b, t, ring, -1), g.constant([3], np.int64), keepdims=0)
        if ring > dmax:
            scores = g.op("Add", scores, self.here(out_of_reach(places, t, dmax), place))
        weights = g.op("Softmax", scores, axis=-1)

        features = g.permute(far, (t, b, width), (1, 0, 2))
        features = self.into_ring(f"{block.key}.features", features, place, (b,), ring, width)
        aligned = g.permute(g.op("MatMul", weights, features), (b, t, width), (1, 0, 2))
        return g.op("Concat", mic, g.reshape(aligned, -1, block.far_channels), axis=1)

    def pointwise(self, x: str, conv: nn.Conv2d) -> str:
        """A 1x1 convolution: (T * B * F, C) -> (T * B * F, C'); too small to gain from 8 bits what these cost."""
        weight, bias = conv.weight.detach().numpy()[:, :, 0, 0].T, conv.bias.detach().numpy()
        return self.graph.linear(x, weight, bias)

    def pointwise_channels_first(self, x: str, conv: nn.Conv2d, scale: float = 1.0) -> str:
        """A 1x1 convolution, as `pointwise`, with channels first: (T * B * F, C) -> (C', T * B * F)."""
        weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()[:, None]
        g = self.graph
        return g.op("Gemm", g.constant(weight * scale), x, g.constant(bias * scale), transB=1)

    def into_ring(self, name: str, x: str, place: str, lead: tuple[int, ...], ring: int, width: int) -> str:
        """Write `x`, (*lead, T, width), to its slots of the ring `name`, (*lead, ring, width)."""
        g, shape = self.graph, (*lead, self.frames)
        old = g.remember(name, (*lead, ring, width), in_place=True)
        where = np.moveaxis(np.indices((ring // self.frames, *shape)), 0, -1)  # (place, *lead, frame) of each row
        where[..., -1] += where[..., 0] * self.frames  # the frame's slot
        return g.update(name, g.op("ScatterND", old, self.here(where[..., 1:], place), g.reshape(x, *shape, width)))

    def write(self, spec: str, farend: str | None = None) -> str:
        """The whole network, (T * B * F, 2) -> (T * B * F, 2)."""
        g, network, x, skips = self.graph, self.network, self.features(spec), []
        for i in range(network.depth):
            if i == 2 and farend:
                far = self.encoder(self.encoder(self.features(farend), network.farblock1), network.farblock2)
                x = self.align(x, far, network.align) if network.align else g.op("Concat", x, far, axis=1)
            x = self.encoder(x, network.get_submodule(f"enblock{i + 1}"))
            skips.append(x)
        x = self.bottleneck(x, network.bottle)
        for i in reversed(range(network.depth)):
            x = self.decoder(x, skips[i], network.get_submodule(f"deblock{i + 1}"))
        channels = network.deblock1.deconv.conv.out_channels // 2
        return self.mask(x, spec, network.bins, channels)

    @staticmethod
    def covers(network) -> bool:
        """Whether this file knows all that `network` is made of."""
        known = "torch.nn.", "deepvqe_hub.models."  # where its layers come from; adapters around them come from others
        return (
            isinstance(network, DeepVQE)
            and isinstance(network.ccm, ComplexConvolvingMask)
            and all(type(part).__module__.startswith(known) for part in network.modules())
            and all(
                isinstance(network.get_submodule(f"deblock{i + 1}").deconv, SubpixelConv2d)
                for i in range(network.depth)
            )
        )
