"""The graph of one streaming step of DeepVQE, written from the modules and their weights.

Layout: a feature map is a matrix, a row for each (frame, stream, bin) and a column for each channel, so that every
convolution is one matrix product. The last frames stand in a ring of such rows, which a call overwrites where it is
oldest, in place: nothing moves. A last row of zeros stands for everything off the frequency axis, and one Gather picks
all rows that an output sees. Its indices are constants, a table for each place in the ring; stride and padding are in
them.
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

MASK_TAPS = 3  # frames and bins


@dataclass
class Step:
    """Writes the modules of a folded network into ``graph``, for ``frames`` frames a call of ``batch`` streams."""

    graph: Graph
    network: DeepVQE
    batch: int = 1
    frames: int = 1
    quantize: bool = False
    places: int = field(init=False)
    """Calls after which rings are full: their length is a multiple of a call's frames, at least what is looked at."""

    def __post_init__(self):
        taps = max(m.kernel_size[0] for m in self.network.modules() if isinstance(m, CausalConv2d))
        self.places = -(-(max(taps, MASK_TAPS) - 1) // self.frames) + 1
        g = self.graph
        place = g.remember("place", (1,), np.int64)
        following = g.op("Add", place, g.constant([1], np.int64))
        g.update("place", g.op("Mod", following, g.constant([self.places], np.int64)))
        self._place, self._chosen = g.reshape(place), {}

    def here(self, tables: np.ndarray, bins: int = 0, zeros: int = 0) -> str:
        """Of ``tables``, (places, ...), the one for the place where this call stands.

        With ``bins`` it is for the first of the streams, those of the others follow; ``zeros`` stays what it is.
        """
        g, tables = self.graph, self.graph.constant(tables)
        if tables not in self._chosen:
            rows = g.op("Gather", tables, self._place, axis=0)
            if bins and self.batch > 1:
                rows = g.op("Add", rows, g.constant(np.arange(self.batch)[:, None, None] * bins))
                rows = g.op("Min", rows, g.constant(zeros, np.int64))
            self._chosen[tables] = rows
        return self._chosen[tables]

    def rows(self, spec: str, bins: int) -> str:
        """(B, F, T, 2) -> (T * B * F, 2)."""
        return self.graph.reshape(self.graph.swap(spec, self.batch * bins, self.frames, 2), -1, 2)

    def spectrum(self, rows: str, bins: int) -> str:
        """(T * B * F, 2) -> (B, F, T, 2)."""
        rows = self.graph.swap(rows, self.frames, self.batch * bins, 2)
        return self.graph.reshape(rows, self.batch, bins, self.frames, 2)

    def conv(self, x: str, conv: CausalConv2d, key: str, exact: bool = False) -> str:
        """A causal convolution: (T * B * F, C) -> (T * B * F', C'); in float32 if ``exact``, also in an 8-bit graph."""
        g = self.graph
        weight = conv.weight.detach().numpy().transpose(2, 3, 1, 0).reshape(-1, conv.out_channels)
        bias = conv.bias.detach().numpy()
        x, rows = self.ring(f"{key}.past", x, conv.bins, conv.in_channels, conv.kernel_size, conv.stride[1])
        x, *scale = g.quantize(x) if self.quantize and not exact else [x]
        x = g.reshape(g.op("Gather", x, rows, axis=0), -1, len(weight))
        return g.linear8((x, *scale), weight, bias) if scale else g.linear(x, weight, bias)

    def ring(
        self, name: str, x: str, bins: int, channels: int, kernel: tuple[int, int], stride: int = 1
    ) -> tuple[str, str]:
        """Put ``x``, (T * B * F, C), into ring ``name``; returns the ring and the rows of it that each output sees."""
        g, size = self.graph, self.places * self.frames * self.batch * bins
        ring = g.remember(name, (size + 1, channels), in_place=True)
        new = np.arange(size).reshape(self.places, -1, 1)
        ring = g.update(name, g.op("ScatterND", ring, self.here(new), x))
        rows = patch_rows(self.places, self.frames, self.batch, bins, kernel, stride)
        return ring, self.here(rows, bins, size)

    def product(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """A linear layer on rows: (n, K) -> (n, N)."""
        g = self.graph
        return g.linear8(g.quantize(x), weight, bias) if self.quantize else g.linear(x, weight, bias)

    def elu(self, x: str) -> str:
        """In operators that onnxruntime has vector code for; its own Elu takes twice their time."""
        g = self.graph
        below = g.op("Exp", g.op("Min", x, g.constant(0, np.float32)))
        return g.op("Max", x, g.op("Add", below, g.constant(-1, np.float32)))

    def residual(self, x: str, block, key: str) -> str:
        """(T * B * F, C) -> (T * B * F, C)."""
        if block is None:
            return x
        return self.graph.op("Add", self.elu(self.conv(x, block.conv, f"{key}.conv")), x)

    def encoder(self, x: str, block, key: str) -> str:
        # The spectrum itself has too wide a range for 8 bits, and its layer is a hundredth of the work.
        x = self.elu(self.conv(x, block.conv, f"{key}.conv", exact=block.conv.in_channels == 2))
        return self.residual(x, block.resblock, f"{key}.resblock")

    def bottleneck(self, x: str, block, bins: int) -> str:
        """GRU and linear layer; the weights' inputs and outputs are reordered from channel-major to bin-major."""
        g, gru = self.graph, block.gru
        hidden, size = gru.hidden_size, gru.input_size
        channels = size // bins
        order = np.arange(size).reshape(channels, bins).T.ravel()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_in, w_hidden, b_in, b_hidden = (getattr(gru, name).detach().numpy() for name in names)
        x = self.product(g.reshape(x, self.frames * self.batch, size), w_in[:, order].T, b_in)
        inputs = g.op("Split", x, outputs=self.frames, num_outputs=self.frames) if self.frames > 1 else [x]
        state = g.remember("bottle.gru.hidden", (self.batch, hidden))
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
        outputs[-1] = g.update("bottle.gru.hidden", state)
        y = outputs[0] if self.frames == 1 else g.op("Concat", *outputs, axis=0)
        y = self.product(y, block.fc.weight.detach().numpy()[order].T, block.fc.bias.detach().numpy()[order])
        return g.reshape(y, -1, channels)

    def decoder(self, x: str, skip: str, block, key: str) -> str:
        g, conv = self.graph, block.deconv.conv
        x = g.op("Add", x, self.pointwise(skip, block.skip_conv))
        x = self.residual(x, block.resblock, f"{key}.resblock")
        # In the last layer the steps of 8 bits would be heard where the mask should be silent.
        x = self.conv(x, conv, f"{key}.deconv.conv", exact=not block.activation)
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

    def mask(self, mask: str, spec: str, bins: int) -> str:
        """The complex convolving mask: 27 channels and spectra, (T * B * F, .) -> (T * B * F, 2)."""
        g = self.graph
        taps = g.op("Gather", *self.ring("ccm.past", spec, bins, 2, (MASK_TAPS, MASK_TAPS)), axis=0)
        x = g.op("Mul", g.reshape(g.linear(mask, mask_weights()), -1, 2, 18), g.reshape(taps, -1, 1, 18))
        return g.op("ReduceSum", x, g.constant([2], np.int64), keepdims=0)

    def align(self, mic: str, far: str, block: AlignBlock) -> str:
        """The microphone's features and the aligned far end's: two (T * B * F, .) -> (T * B * F, C_mic + C_far).

        The past is kept in rings of L = dmax + T - 1 frames, of which a call overwrites T: nothing moves, so that the
        cost of a frame is the arithmetic. A position says where in the rings the next frame goes.
        """
        g, b, t = self.graph, self.batch, self.frames
        hidden, bins, channels, dmax = block.hidden, block.bins, block.far_channels, block.dmax
        ring = dmax + t - 1
        position, size = g.remember("align.position", (1,), np.int64), g.constant(ring, np.int64)
        g.update("align.position", g.op("Mod", g.op("Add", position, g.constant(t, np.int64)), size))
        slots = g.op("Mod", g.op("Add", position, g.constant(np.arange(t))), size)

        queries = self.pointwise(mic, block.pconv_mic, bins**-0.5)
        queries = g.op("Transpose", g.reshape(queries, t, b, bins, hidden), perm=[1, 3, 2, 0])
        keys = g.reshape(self.pointwise(far, block.pconv_ref), t, b, bins, hidden)
        keys = self.into_ring("align.keys", g.op("Transpose", keys, perm=[1, 3, 0, 2]), slots, (b, hidden), ring, bins)
        features = g.swap(far, t, b, bins * channels)
        features = self.into_ring("align.features", features, slots, (b,), ring, bins * channels)

        # From slots of the ring to delays, oldest first, and back: frame i of this call stands in slot slots[i].
        rows = g.constant(np.arange(t)[:, None] * ring)
        here = g.reshape(slots, t, 1)
        by_delay = g.op("Add", here, g.constant(np.arange(dmax) - dmax + 1 + ring))
        by_delay = g.op("Add", g.op("Mod", by_delay, size), rows)
        by_slot = g.op("Sub", g.constant(np.arange(ring) + dmax - 1 + ring), here)
        by_slot = g.op("Add", g.op("Mod", by_slot, size), rows)

        similarity = g.op("Transpose", g.op("MatMul", keys, queries), perm=[0, 1, 3, 2])
        similarity = g.op("Gather", g.reshape(similarity, b, hidden, t * ring), by_delay, axis=2)
        old = g.remember("align.similarity", (b, hidden, 4, dmax))
        similarity = g.op("Concat", old, similarity, axis=2)
        g.update("align.similarity", g.slice(similarity, t, t + 4, 2))
        weight, bias = (g.constant(p.detach().numpy()) for p in (block.conv.weight, block.conv.bias))
        weights = g.op("Softmax", g.op("Conv", similarity, weight, bias, pads=[0, 1, 0, 1]), axis=-1)
        weights = g.op("Pad", weights, g.constant([0] * 7 + [t - 1], np.int64)) if t > 1 else weights
        weights = g.op("Gather", g.reshape(weights, b, t * ring), by_slot, axis=1)
        aligned = g.op("MatMul", weights, features)
        return g.op("Concat", mic, g.reshape(g.swap(aligned, b, t, bins * channels), -1, channels), axis=1)

    def pointwise(self, x: str, conv: nn.Conv2d, scale: float = 1.0) -> str:
        """A 1x1 convolution: (T * B * F, C) -> (T * B * F, C'); too small to gain from 8 bits what these cost."""
        weight, bias = conv.weight.detach().numpy()[:, :, 0, 0].T, conv.bias.detach().numpy()
        return self.graph.linear(x, weight * scale, bias * scale)

    def into_ring(self, name: str, x: str, slots: str, lead: tuple[int, ...], ring: int, width: int) -> str:
        """Write ``x``, (*lead, T, width), to the slots of the ring ``name``, (*lead, ring, width)."""
        g, shape = self.graph, (*lead, self.frames)
        old = g.remember(name, (*lead, ring, width), in_place=True)
        where = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)[..., :-1]
        slots = g.op("Expand", g.reshape(slots, self.frames, 1), g.constant([*shape, 1], np.int64))
        new = g.op("ScatterND", old, g.op("Concat", g.constant(where), slots, axis=-1), x)
        return g.update(name, new)

    def write(self, spec: str, farend: str | None = None) -> str:
        """The whole network, (T * B * F, 2) -> (T * B * F, 2)."""
        g, network, x, skips = self.graph, self.network, self.features(spec), []
        for i in range(network.depth):
            if i == 2 and farend:
                far = self.encoder(self.features(farend), network.farblock1, "farblock1")
                far = self.encoder(far, network.farblock2, "farblock2")
                x = self.align(x, far, network.align) if network.align else g.op("Concat", x, far, axis=1)
            x = self.encoder(x, network.get_submodule(f"enblock{i + 1}"), f"enblock{i + 1}")
            skips.append(x)
        bins = network.get_submodule(f"deblock{network.depth}").deconv.conv.bins
        x = self.bottleneck(x, network.bottle, bins)
        for i in reversed(range(network.depth)):
            x = self.decoder(x, skips[i], network.get_submodule(f"deblock{i + 1}"), f"deblock{i + 1}")
        return self.mask(x, spec, network.bins)

    @staticmethod
    def covers(network) -> bool:
        """Whether this file knows all that ``network`` is made of."""
        return (
            isinstance(network, DeepVQE)
            and isinstance(network.ccm, ComplexConvolvingMask)
            and all(
                isinstance(network.get_submodule(f"deblock{i + 1}").deconv, SubpixelConv2d)
                for i in range(network.depth)
            )
        )


def patch_rows(places: int, frames: int, batch: int, bins: int, kernel: tuple[int, int], stride: int) -> np.ndarray:
    """Rows of a ring that each output of a convolution sees: (places, frames, 1, out_bins, taps * width).

    The ring holds rows (place, frame, stream, bin) and a last one of zeros, for bins off the axis; the outputs are
    those of the first stream.
    """
    taps, width = kernel
    place, frame, bin_, tap, offset = np.ogrid[:places, :frames, : (bins - 1) // stride + 1, :taps, :width]
    frame = (place * frames + frame + tap - taps + 1) % (places * frames)
    bin_ = bin_ * stride + offset - width // 2
    rows = np.where((bin_ >= 0) & (bin_ < bins), frame * batch * bins + bin_, places * frames * batch * bins)
    return rows.reshape(places, frames, 1, -1, taps * width)


def mask_weights() -> np.ndarray:
    """From the mask's channels, (part, tap), to what multiplies the taps' real and imaginary parts: (27, 2 * 9 * 2).

    Columns are (re or im of the result, tap, re or im of the tap); the parts lie along the cube roots of one.
    """
    re, im = (1, -0.5, -0.5), (0, 3**0.5 / 2, -(3**0.5) / 2)
    weight = np.zeros((3, 9, 2, 9, 2), np.float32)
    for part in range(3):
        for tap in range(9):
            weight[part, tap, :, tap] = [[re[part], -im[part]], [im[part], re[part]]]
    return weight.reshape(27, 36)


def subpixel_rows(frames: int, bins: int, module) -> np.ndarray:
    """Where the bins after a sub-pixel convolution stand among rows (frame, bin, group): (frames * out_bins,)."""
    rows = np.arange(frames * bins * 2).reshape(frames, bins, 2)
    rows = rows.transpose(0, 2, 1) if module.order == "concat" else rows
    return rows.reshape(frames, -1)[:, : module.out_bins].ravel()
