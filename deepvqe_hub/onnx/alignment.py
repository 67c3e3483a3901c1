"""The alignment of the far end in a graph: what `AlignBlock` does, on rings.

The rings hold L frames, a multiple of the T frames of a call: frame n stands in slot n % L, where frame n - L stood.
Delays are therefore told by slot: what stands in slot s is (f - s) % L frames older than the frame in slot f. The
softmax over delays does not mind their order. With L = 5 and five delays, when frame 7 has come into slot 2:

    slot                    0  1  2  3  4
    frame                   5  6  7  3  4
    its delay for frame 7   2  1  0  4  3

The convolution of similarities over frames and delays has a tap for each neighbour that it sees. The score of slot 0
above, frame 7 with delay 2, sees through the tap "one frame back, one delay longer" frame 6 with delay 3, which is
frame 3. Frame 6 is in slot 1 and frame 3 in slot 3, so it takes the value (slot 1, that tap, slot 3) of the products.

Shapes: B streams, H similarity channels, F bins, C channels of the far end:

    queries (B, H, F, T), keys (B, H, L, F) -> similarity (B, H, T, L)
    the taps' products over channels, each frame's by slot of the keys (B, L, taps + 1, L) -> scores, weights (B, T, L)
    features (B, L, F * C) -> aligned (B, T, F * C)
"""

from __future__ import annotations

import numpy as np
from torch import nn

from deepvqe_hub.models.align import AlignBlock
from deepvqe_hub.onnx.builder import Graph
from deepvqe_hub.onnx.rings import Rings


def align(g: Graph, mic: str, far: str, block: AlignBlock, batch: int, frames: int) -> str:
    """The microphone's features and the aligned far end's: two (T * B * F, .) -> (T * B * F, C_mic + C)."""
    hidden, bins, width = block.hidden, block.bins, block.bins * block.far_channels
    rings = Rings(g, f"{block.key}.place", max(block.dmax, block.conv.kernel_size[0]), frames)
    slots = rings.places * frames

    queries = channels_first(g, mic, block.pconv_mic, bins**-0.5)
    queries = g.permute(queries, (hidden, frames, batch, bins), (2, 0, 3, 1))
    keys = channels_first(g, far, block.pconv_ref)
    keys = g.permute(keys, (hidden, frames, batch, bins), (2, 0, 1, 3))
    keys = rings.write(f"{block.key}.keys", keys, (batch, hidden, frames, bins))
    similarity = g.permute(g.op("MatMul", keys, queries), (batch, hidden, slots, frames), (0, 1, 3, 2))

    # The convolution: first its products over channels, which the ring keeps, then its sum over taps. Its bias would
    # be the same for all delays.
    weight = tap_weights(block)
    products = g.op("MatMul", g.constant(weight), g.reshape(similarity, batch, hidden, frames * slots))
    products = g.permute(products, (batch, len(weight), frames, slots), (0, 2, 1, 3))
    products = rings.write(f"{block.key}.similarity", products, (batch, frames, len(weight) * slots))
    values = rings.here(tap_values(rings.places, frames, block).reshape(rings.places, 1, -1))
    values = g.op("Expand", values, g.constant([batch, 1], np.int64)) if batch > 1 else values
    products = g.op("GatherElements", g.reshape(products, batch, -1), values, axis=1)
    scores = g.op("ReduceSum", g.reshape(products, batch, frames, slots, -1), g.constant([3], np.int64), keepdims=0)
    if slots > block.dmax:
        scores = g.op("Add", scores, rings.here(out_of_reach(rings.places, frames, block.dmax)))
    weights = g.op("Softmax", scores, axis=-1)

    features = g.permute(far, (frames, batch, width), (1, 0, 2))
    features = rings.write(f"{block.key}.features", features, (batch, frames, width))
    aligned = g.permute(g.op("MatMul", weights, features), (batch, frames, width), (1, 0, 2))
    return g.op("Concat", mic, g.reshape(aligned, -1, block.far_channels), axis=1)


def channels_first(g: Graph, x: str, conv: nn.Conv2d, scale: float = 1.0) -> str:
    """A 1x1 convolution, and a factor: (T * B * F, C) -> (C', T * B * F)."""
    weight, bias = conv.weight.detach().numpy()[:, :, 0, 0], conv.bias.detach().numpy()[:, None]
    return g.op("Gemm", g.constant(weight * scale), x, g.constant(bias * scale), transB=1)


def tap_weights(block: AlignBlock) -> np.ndarray:
    """Weights of the convolution, (taps + 1, H): a row for each tap, and one of zeros for what lies off the delays."""
    weight = block.conv.weight.detach().numpy()[0].reshape(block.hidden, -1)
    return np.pad(weight.T, ((0, 1), (0, 0)))


def tap_values(places: int, frames: int, block: AlignBlock) -> np.ndarray:
    """Where the products that a score is the sum of stand among all, (L, taps + 1, L): (places, T, L, taps)."""
    slots, (frames_back, width) = places * frames, block.conv.kernel_size
    taps = frames_back * width
    now, slot, back, side = np.ogrid[:slots, :slots, :frames_back, :width]  # a score, and a tap
    delay = (now - slot) % slots + width // 2 - side  # that the tap sees
    seen = (now + back - (frames_back - 1)) % slots  # the slot of the frame that it sees
    row = np.where((delay >= 0) & (delay < block.dmax), back * width + side, taps)
    values = (seen * (taps + 1) + row) * slots + (seen - delay) % slots
    return values.reshape(places, frames, slots, taps).astype(np.int32)


def out_of_reach(places: int, frames: int, dmax: int) -> np.ndarray:
    """What rules out the slots of a ring beyond the delays: 0 or a very small number, (places, T, L)."""
    now, slot = np.ogrid[: places * frames, : places * frames]
    scores = np.where((now - slot) % (places * frames) < dmax, 0, np.finfo(np.float32).min / 2)
    return scores.reshape(places, frames, -1).astype(np.float32)
