"""The graph of one streaming step of DeepVQE, written from the modules and their weights.

Layout: a feature map is a matrix, a row for each (frame, stream, bin) and a column for each channel, so that every
convolution is one matrix product. The last frames stand in a ring of such rows, see `deepvqe_hub.onnx.rings`, with a
last one of zeros for everything off the frequency axis. One Gather picks all rows that an output sees, or their values
one by one where rows are short; stride and padding are in its indices.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import nn

from deepvqe_hub.models.causal import CausalConv2d, SubpixelConv2d
from deepvqe_hub.models.deepvqe import DeepVQE
from deepvqe_hub.models.mask import ComplexConvolvingMask
from deepvqe_hub.onnx.alignment import align
from deepvqe_hub.onnx.builder import Graph
from deepvqe_hub.onnx.rings import Rings
from deepvqe_hub.onnx.tables import MASK_TAPS, mask_weights, patch_rows, subpixel_rows

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
    rings: Rings = field(init=False)
    """Of what convolutions and the mask see."""

    def __post_init__(self):
        taps = max(m.kernel_size[0] for m in self.network.modules() if isinstance(m, CausalConv2d))
        self.rings = Rings(self.graph, "place", max(taps, MASK_TAPS), self.frames)

    def conv(self, x: str, conv: CausalConv2d, exact: bool = False) -> str:
        """A causal convolution: (T * B * F, C) -> (T * B * F', C'); in float32 if `exact`, also in an 8-bit graph."""
        g = self.graph
        weight = conv.weight.detach().numpy().transpose(2, 3, 1, 0).reshape(-1, conv.out_channels)
        bias = conv.bias.detach().numpy()
        x = self.ring(f"{conv.key}.past", x, conv.bins, conv.in_channels)
        eight_bits = self.quantize and not exact
        if eight_bits:  # here, as patches hold each row several times
            x, *scale = g.quantize(x)
        x = self.patches(x, conv.bins, conv.in_channels, conv.kernel_size, conv.stride[1])
        x = g.reshape(x, -1, len(weight))
        return g.linear8((x, *scale), weight, bias) if eight_bits else g.linear(x, weight, bias)

    def ring(self, name: str, x: str, bins: int, channels: int) -> str:
        """Put `x`, (T * B * F, C), into the ring `name`; returns the ring, with a last row of zeros."""
        return self.rings.write(name, x, (self.frames * self.batch * bins, channels), zeros=1)

    def patches(self, ring: str, bins: int, channels: int, kernel: tuple[int, int], stride: int = 1) -> str:
        """What each output of a convolution sees of a ring: values in the order (T, B, F', taps, width, C)."""
        g, zeros = self.graph, self.rings.places * self.frames * self.batch * bins
        rows = patch_rows(self.rings.places, self.frames, self.batch, bins, kernel, stride)
        if channels > NARROW:
            return g.op("Gather", ring, self.of_all_streams(rows, bins, zeros), axis=0)
        values = rows[..., None] * channels + np.arange(channels)
        values = self.of_all_streams(values.reshape(*rows.shape[:-1], -1), bins * channels, zeros * channels)
        return g.op("GatherElements", g.reshape(ring, -1), g.reshape(values, -1))

    def of_all_streams(self, tables: np.ndarray, step: int, zeros: int) -> str:
        """`Rings.here` of indices for the first stream, (places, T, 1, ...), for all of them, (T, B, ...).

        Each stream's lie `step` after the last one's, up to `zeros`, where zeros stand.
        """
        g, indices = self.graph, self.rings.here(tables.astype(np.int32))
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

    def pointwise(self, x: str, conv: nn.Conv2d) -> str:
        """A 1x1 convolution: (T * B * F, C) -> (T * B * F, C'); too small to gain from 8 bits what these cost."""
        weight, bias = conv.weight.detach().numpy()[:, :, 0, 0].T, conv.bias.detach().numpy()
        return self.graph.linear(x, weight, bias)

    def write(self, spec: str, farend: str | None = None) -> str:
        """The whole network, (T * B * F, 2) -> (T * B * F, 2)."""
        g, network, x, skips = self.graph, self.network, self.features(spec), []
        for i, block in enumerate(network.encoder_blocks):
            if i == 2 and farend:
                far = self.encoder(self.encoder(self.features(farend), network.farblock1), network.farblock2)
                if network.align:
                    x = align(g, x, far, network.align, self.batch, self.frames)
                else:
                    x = g.op("Concat", x, far, axis=1)
            x = self.encoder(x, block)
            skips.append(x)
        x = self.bottleneck(x, network.bottle)
        for block, skip in zip(network.decoder_blocks, reversed(skips)):
            x = self.decoder(x, skip, block)
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
            and all(isinstance(block.deconv, SubpixelConv2d) for block in network.decoder_blocks)
        )
