"""The comparison for our streaming graphs: a DeepVQE step exported the plain way.

One operator after the other as the modules are written: every causal convolution sees its input behind the three
frames that it remembers (Concat, Conv, Slice), batch norms stay nodes, the sub-pixel rearrangement is Reshape and
Transpose. This is what tracing a streaming copy of the network gives; onnxruntime then optimises it as it can.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deepvqe_hub import EnhancementModel


class PlainGraph:
    """Collects nodes; every method returns the name of what it computed."""

    def __init__(self, model: EnhancementModel):
        self.network = model.network.eval()
        self.nodes, self.constants, self.inputs, self.outputs, self.state = [], [], [], [], []

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes):
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value) -> str:
        name = f"constant_{len(self.constants)}"
        value = value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def info(self, name: str, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def cached(self, x: str, shape: tuple[int, ...], key: str) -> str:
        """`x` behind its past frames; its last frames become the next state. Frames are axis 2."""
        name, new = f"{key}.in", f"{key}.out"
        self.inputs.append(self.info(name, shape))
        x = self.op("Concat", name, x, axis=2)
        ends = [self.constant(np.array([v])) for v in (-shape[2], np.iinfo(np.int64).max, 2)]
        self.nodes.append(helper.make_node("Slice", [x, *ends], [new]))
        self.outputs.append(self.info(new, shape))
        self.state.append((name, new))
        return x

    def conv(self, x: str, conv: nn.Conv2d, key: str) -> str:
        pad = 0
        if conv.kernel_size[0] > 1:
            x = self.cached(x, (1, conv.in_channels, conv.kernel_size[0] - 1, conv.bins), key)
            pad = conv.kernel_size[1] // 2
        return self.op(
            "Conv",
            x,
            self.constant(conv.weight),
            self.constant(conv.bias),
            strides=conv.stride,
            pads=[0, pad, 0, pad],
        )

    def norm(self, x: str, norm: nn.BatchNorm2d | None) -> str:
        if norm is None:
            return x
        values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return self.op("BatchNormalization", x, *map(self.constant, values), epsilon=norm.eps)

    def residual(self, x: str, block, key: str) -> str:
        if block is None:
            return x
        return self.op("Add", self.op("Elu", self.norm(self.conv(x, block.conv, f"{key}.conv"), block.bn)), x)

    def encoder(self, x: str, block, key: str) -> str:
        x = self.op("Elu", self.norm(self.conv(x, block.conv, f"{key}.conv"), block.bn))
        return self.residual(x, block.resblock, f"{key}.resblock")

    def bottleneck(self, x: str, block) -> str:
        gru, size, hidden = block.gru, block.fc.out_features, block.gru.hidden_size
        order = np.concatenate([np.arange(hidden) + g * hidden for g in (1, 0, 2)])  # ONNX: update, reset, hidden
        values = {k: v.detach().numpy()[order] for k, v in gru.named_parameters()}
        self.inputs.append(self.info("bottle.in", (1, 1, hidden)))
        shape = (1, size // self.last_bins, self.last_bins, 1)
        flat = self.op("Reshape", x, self.constant(np.array([1, 1, size])))
        y, state = self.op(
            "GRU",
            flat,
            self.constant(values["weight_ih_l0"][None]),
            self.constant(values["weight_hh_l0"][None]),
            self.constant(np.concatenate([values["bias_ih_l0"], values["bias_hh_l0"]])[None]),
            "",
            "bottle.in",
            outputs=2,
            hidden_size=hidden,
            linear_before_reset=1,
        )
        self.outputs.append(self.info(state, (1, 1, hidden)))
        self.state.append(("bottle.in", state))
        y = self.op("Reshape", y, self.constant(np.array([1, 1, hidden])))
        y = self.op("MatMul", y, self.constant(block.fc.weight.T))
        y = self.op("Add", y, self.constant(block.fc.bias))
        return self.op("Transpose", self.op("Reshape", y, self.constant(np.array(shape))), perm=[0, 1, 3, 2])

    def decoder(self, x: str, skip: str, block, key: str) -> str:
        x = self.op("Add", x, self.conv(skip, block.skip_conv, ""))
        x = self.residual(x, block.resblock, f"{key}.resblock")
        x = self.conv(x, block.deconv.conv, f"{key}.deconv.conv")
        channels, bins = block.deconv.conv.out_channels // 2, block.deconv.conv.bins
        x = self.op("Reshape", x, self.constant(np.array([1, 2, channels, 1, bins])))
        order = [0, 2, 3, 1, 4] if block.deconv.order == "concat" else [0, 2, 3, 4, 1]
        x = self.op("Transpose", x, perm=order)
        x = self.op("Reshape", x, self.constant(np.array([1, channels, 1, 2 * bins])))
        x = self.norm(x, block.bn)
        x = self.op("Elu", x) if block.activation else x
        return self.op("Slice", x, *(self.constant(np.array([v])) for v in (0, block.deconv.out_bins, 3)))

    def features(self, spec: str) -> str:
        re, im = self.op("Split", spec, outputs=2, axis=3, num_outputs=2)
        square = self.op("Add", self.op("Mul", re, re), self.op("Mul", im, im))
        power = self.op("Add", square, self.constant(np.float32(1e-12)))
        gain = self.op("Pow", power, self.constant(np.float32((self.network.compression - 1) / 2)))
        return self.op("Transpose", self.op("Mul", spec, gain), perm=[0, 3, 2, 1])

    def mask(self, mask: str, spec: str, bins: int) -> str:
        x = self.cached(self.op("Transpose", spec, perm=[0, 3, 2, 1]), (1, 2, 2, bins), "ccm")
        x = self.op("Pad", x, self.constant(np.array([0, 0, 0, 1, 0, 0, 0, 1])))
        x = self.op("Unsqueeze", x, self.constant(np.array([0])))
        taps = []
        for m in range(3):
            for n in range(3):
                box = ([m, n], [m + 1, n + bins], [3, 4])
                taps.append(self.op("Slice", x, *(self.constant(np.array(v)) for v in box)))
        taps = self.op("Concat", *taps, axis=0)  # (9, 1, 2, 1, bins)
        taps = self.op("Reshape", taps, self.constant(np.array([1, 9, 2, bins])))
        mask = self.op("Reshape", mask, self.constant(np.array([3, 9, bins])))
        roots = np.array([[1, -0.5, -0.5], [0, 3**0.5 / 2, -(3**0.5) / 2]], dtype=np.float32)[:, :, None, None]
        weights = self.op("Mul", self.op("Unsqueeze", mask, self.constant(np.array([0]))), self.constant(roots))
        weights = self.op("ReduceSum", weights, self.constant(np.array([1])), keepdims=0)  # (2, 9, bins)
        h_re, h_im = self.op("Split", weights, outputs=2, axis=0, num_outputs=2)
        x_re, x_im = self.op("Split", taps, outputs=2, axis=2, num_outputs=2)
        flat = self.constant(np.array([1, 9, bins]))
        x_re, x_im = self.op("Reshape", x_re, flat), self.op("Reshape", x_im, flat)
        out = []
        for kind, a, b in (("Sub", x_re, x_im), ("Add", x_im, x_re)):
            y = self.op(kind, self.op("Mul", h_re, a), self.op("Mul", h_im, b))
            out.append(self.op("ReduceSum", y, self.constant(np.array([1])), keepdims=0))
        y = self.op("Concat", *out, axis=0)
        y = self.op("Transpose", y, perm=[1, 0])
        return self.op("Reshape", y, self.constant(np.array([1, bins, 1, 2])))

    def build(self) -> tuple[onnx.ModelProto, list[tuple[str, str]]]:
        """The graph (input and output "spec", (1, bins, 1, 2)) and the pairs of names of state inputs and outputs."""
        network = self.network
        if network.farend:
            raise ValueError("the plain graph is written for networks without a far end")
        bins = network.ccm.bins
        self.inputs.append(self.info("spec", (1, bins, 1, 2)))
        x, skips = self.features("spec"), []
        for i in range(network.depth):
            x = self.encoder(x, network.get_submodule(f"enblock{i + 1}"), f"enblock{i + 1}")
            skips.append(x)
        self.last_bins = network.get_submodule(f"deblock{network.depth}").deconv.conv.bins
        x = self.bottleneck(x, network.bottle)
        for i in reversed(range(network.depth)):
            x = self.decoder(x, skips[i], network.get_submodule(f"deblock{i + 1}"), f"deblock{i + 1}")
        y = self.mask(x, "spec", bins)
        self.outputs.append(self.info(y, (1, bins, 1, 2)))
        graph = helper.make_graph(self.nodes, "plain", self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model, [*self.state, ("spec", y)]
