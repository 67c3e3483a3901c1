"""The graph of one streaming step of DeepVQE, written from the modules and their weights.

Layout: a feature map is (batch, frames * bins, channels), so that every convolution is one matrix product. What it
needs beside its input is remembered in the same layout; an extra row of zeros stands for everything off the frequency
axis, and one Gather by constant indices picks all rows that an output sees (stride and padding are in the indices).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from deepvqe_hub.models.align import AlignBlock
from deepvqe_hub.models.causal import CausalConv2d, SubpixelConv2d
from deepvqe_hub.models.deepvqe import DeepVQE
from deepvqe_hub.models.mask import ComplexConvolvingMask
from deepvqe_hub.onnx.builder import Graph


@dataclass
class Step:
    """Writes the modules of a folded network into ``graph``, for ``frames`` frames a call of ``batch`` streams."""

    graph: Graph
    network: DeepVQE
    batch: int = 1
    frames: int = 1
    quantize: bool = False

    def rows(self, spec: str, bins: int) -> str:
        """(B, F, T, 2) -> (B, T * F, 2)."""
        spec = spec if self.frames == 1 else self.graph.op("Transpose", spec, perm=[0, 2, 1, 3])
        return self.graph.reshape(spec, self.batch, self.frames * bins, 2)

    def spectrum(self, rows: str, bins: int) -> str:
        """(B, T * F, 2) -> (B, F, T, 2)."""
        if self.frames == 1:
            return self.graph.reshape(rows, self.batch, bins, 1, 2)
        return self.graph.op("Transpose", self.graph.reshape(rows, self.batch, self.frames, bins, 2), perm=[0, 2, 1, 3])

    def maps(self, x: str, channels: int) -> str:
        """Rows of all streams and frames, (B * n, C), as (B, n, C)."""
        return self.graph.reshape(x, self.batch, -1, channels)

    def conv(self, x: str, conv: CausalConv2d, key: str) -> str:
        """A causal convolution: (B, T * F, C) -> (B * T * F', C')."""
        g, (taps, width), bins = self.graph, conv.kernel_size, conv.bins
        x = self.behind_past(x, f"{key}.past", taps - 1, bins, conv.in_channels)
        weight = conv.weight.detach().numpy().transpose(2, 3, 1, 0).reshape(-1, conv.out_channels)
        index = g.constant(patch_rows(self.frames, bins, taps, width, conv.stride[1]), np.int64)
        # The spectrum itself has too wide a range for 8 bits, and its layer is a hundredth of the work.
        quantized = g.quantize(x) if self.quantize and conv.in_channels > 2 else None
        x = g.reshape(g.op("Gather", quantized[0] if quantized else x, index, axis=1), -1, len(weight))
        bias = conv.bias.detach().numpy()
        return g.linear8((x, *quantized[1:]), weight, bias) if quantized else g.linear(x, weight, bias)

    def behind_past(self, x: str, name: str, past: int, bins: int, channels: int) -> str:
        """``x`` behind the frames that state ``name`` remembers and before the row of zeros."""
        g, frames = self.graph, self.frames
        old = g.remember(name, (self.batch, past * bins, channels))
        x = g.op("Concat", old, x, g.constant(np.zeros((self.batch, 1, channels), np.float32)), axis=1)
        g.update(name, g.slice(x, frames * bins, (frames + past) * bins, 1))
        return x

    def product(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """A linear layer on rows: (n, K) -> (n, N)."""
        g = self.graph
        return g.linear8(g.quantize(x), weight, bias) if self.quantize else g.linear(x, weight, bias)

    def elu(self, x: str) -> str:
        return self.graph.op("Elu", x)

    def residual(self, x: str, block, key: str) -> str:
        """(B, T * F, C) -> (B, T * F, C)."""
        if block is None:
            return x
        y = self.elu(self.conv(x, block.conv, f"{key}.conv"))
        return self.graph.op("Add", self.maps(y, block.conv.out_channels), x)

    def encoder(self, x: str, block, key: str) -> str:
        x = self.elu(self.conv(x, block.conv, f"{key}.conv"))
        return self.residual(self.maps(x, block.conv.out_channels), block.resblock, f"{key}.resblock")

    def bottleneck(self, x: str, block, bins: int) -> str:
        """GRU and linear layer; the weights' inputs and outputs are reordered from channel-major to bin-major."""
        g, gru = self.graph, block.gru
        hidden, size = gru.hidden_size, gru.input_size
        channels = size // bins
        order = np.arange(size).reshape(channels, bins).T.ravel()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_in, w_hidden, b_in, b_hidden = (getattr(gru, name).detach().numpy() for name in names)
        x = self.product(g.reshape(x, self.batch * self.frames, size), w_in[:, order].T, b_in)
        state = g.remember("bottle.gru.hidden", (self.batch, hidden))
        outputs = []
        for t in range(self.frames):
            y = self.product(state, w_hidden.T, b_hidden)
            now = x
            if self.frames > 1:
                now = g.op("Gather", g.reshape(x, self.batch, self.frames, -1), g.constant(t), axis=1)
            parts = [g.constant([2 * hidden, hidden], np.int64)]
            gates_x, new_x = g.op("Split", now, *parts, outputs=2, axis=1)
            gates_h, new_h = g.op("Split", y, *parts, outputs=2, axis=1)
            gates = g.op("Sigmoid", g.op("Add", gates_x, gates_h))
            reset, keep = g.op("Split", gates, g.constant([hidden, hidden], np.int64), outputs=2, axis=1)
            new = g.op("Tanh", g.op("Add", new_x, g.op("Mul", reset, new_h)))
            state = g.op("Add", new, g.op("Mul", keep, g.op("Sub", state, new)))
            outputs.append(g.reshape(state, self.batch, 1, hidden))
        g.update("bottle.gru.hidden", state)
        y = outputs[0] if self.frames == 1 else g.op("Concat", *outputs, axis=1)
        y = self.product(
            g.reshape(y, -1, hidden), block.fc.weight.detach().numpy()[order].T, block.fc.bias.detach().numpy()[order]
        )
        return g.reshape(y, self.batch, -1, channels)

    def decoder(self, x: str, skip: str, block, key: str) -> str:
        g, conv = self.graph, block.deconv.conv
        x = self.skip(x, skip, block.skip_conv)
        x = self.residual(x, block.resblock, f"{key}.resblock")
        x = self.conv(x, conv, f"{key}.deconv.conv")
        x = self.elu(x) if block.activation else x
        x = self.maps(x, conv.out_channels // 2)  # rows (frame, bin, group)
        return g.op("Gather", x, g.constant(subpixel_rows(self.frames, conv.bins, block.deconv), np.int64), axis=1)

    def skip(self, x: str, skip: str, conv: nn.Conv2d) -> str:
        g, weight = self.graph, conv.weight.detach().numpy()[:, :, 0, 0].T
        y = self.product(g.reshape(skip, -1, conv.in_channels), weight, conv.bias.detach().numpy())
        return g.op("Add", x, self.maps(y, conv.out_channels))

    def features(self, spec: str) -> str:
        """Power-law compression: (B, T * F, 2) -> (B, T * F, 2)."""
        g = self.graph
        power = g.op("ReduceSum", g.op("Mul", spec, spec), g.constant([2], np.int64))
        power = g.op("Add", power, g.constant(1e-12, np.float32))
        return g.op("Mul", spec, g.op("Pow", power, g.constant((self.network.compression - 1) / 2, np.float32)))

    def mask(self, mask: str, spec: str, bins: int) -> str:
        """The complex convolving mask: 27 channels and spectra, (B, T * F, .) -> (B, T * F, 2)."""
        g = self.graph
        x = self.behind_past(spec, "ccm.past", 2, bins, 2)
        taps = g.op("Gather", x, g.constant(patch_rows(self.frames, bins, 3, 3, 1), np.int64), axis=1)
        weights = g.linear(g.reshape(mask, -1, 27), mask_weights())
        x = g.op("Mul", g.reshape(weights, -1, 2, 18), g.reshape(taps, -1, 1, 18))
        return g.op("ReduceSum", x, g.constant([2], np.int64), keepdims=0)

    def align(self, mic: str, far: str, block: AlignBlock) -> str:
        """The microphone's features and the aligned far end's: two (B, T * F, .) -> (B, T * F, C_mic + C_far).

        The past is kept in rings of L = dmax + T - 1 frames, of which a call overwrites T: nothing moves, so that the
        cost of a frame is the arithmetic. A position says where in the rings the next frame goes.
        """
        g, b, t = self.graph, self.batch, self.frames
        hidden, bins, channels, dmax = block.hidden, block.bins, block.far_channels, block.dmax
        ring = dmax + t - 1
        position, size = g.remember("align.position", (1,), np.int64), g.constant(ring, np.int64)
        g.update("align.position", g.op("Mod", g.op("Add", position, g.constant(t, np.int64)), size))
        slots = g.op("Mod", g.op("Add", position, g.constant(np.arange(t))), size)

        queries = self.projection(mic, block.pconv_mic, bins**-0.5)
        queries = g.op("Transpose", g.reshape(queries, b, t, bins, hidden), perm=[0, 3, 2, 1])
        keys = g.reshape(self.projection(far, block.pconv_ref), b, t, bins, hidden)
        keys = self.into_ring("align.keys", g.op("Transpose", keys, perm=[0, 3, 1, 2]), slots, (b, hidden), ring, bins)
        features = g.reshape(far, b, t, bins * channels)
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
        return g.op("Concat", mic, g.reshape(aligned, b, t * bins, channels), axis=2)

    def projection(self, x: str, conv: nn.Conv2d, scale: float = 1.0) -> str:
        weight, bias = conv.weight.detach().numpy()[:, :, 0, 0].T, conv.bias.detach().numpy()
        return self.graph.linear(self.graph.reshape(x, -1, conv.in_channels), weight * scale, bias * scale)

    def into_ring(self, name: str, x: str, slots: str, lead: tuple[int, ...], ring: int, width: int) -> str:
        """Write ``x``, (*lead, T, width), to the slots of the ring ``name``, (*lead, ring, width)."""
        g, shape = self.graph, (*lead, self.frames)
        old = g.remember(name, (*lead, ring, width), in_place=True)
        where = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)[..., :-1]
        slots = g.op("Expand", g.reshape(slots, self.frames, 1), g.constant([*shape, 1], np.int64))
        new = g.op("ScatterND", old, g.op("Concat", g.constant(where), slots, axis=-1), x)
        return g.update(name, new)

    def write(self, spec: str, farend: str | None = None) -> str:
        """The whole network, (B, T * F, 2) -> (B, T * F, 2)."""
        g, network, x, skips = self.graph, self.network, self.features(spec), []
        for i in range(network.depth):
            if i == 2 and farend:
                far = self.encoder(self.features(farend), network.farblock1, "farblock1")
                far = self.encoder(far, network.farblock2, "farblock2")
                x = self.align(x, far, network.align) if network.align else g.op("Concat", x, far, axis=2)
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


def patch_rows(frames: int, bins: int, taps: int, width: int, stride: int) -> np.ndarray:
    """Rows that each output of a convolution sees: (frames * out_bins, taps * width).

    They are rows of ``taps - 1 + frames`` frames of ``bins`` rows each and, for bins off the axis, a last one of zeros.
    """
    out_bins = (bins - 1) // stride + 1
    frame = np.arange(frames)[:, None, None, None] + np.arange(taps)[:, None]
    bin_ = np.arange(out_bins)[:, None, None] * stride + np.arange(width) - width // 2
    rows = np.where((bin_ >= 0) & (bin_ < bins), frame * bins + bin_, (frames + taps - 1) * bins)
    return rows.reshape(frames * out_bins, taps * width)


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
