"""A small helper to write ONNX graphs node by node, with state that goes in and comes out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9  # read by onnxruntime 1.17 and later
MICROSOFT = "com.microsoft"  # onnxruntime's own operators, for the 8-bit products

_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


@dataclass(frozen=True)
class StateInfo:
    """One remembered tensor: the graph's output `output` is its input `name` of the next call."""

    name: str
    output: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    in_place: bool = False
    """Whether input and output may be the same memory, which saves a copy."""


class Graph:
    """Collects nodes, constants, inputs and outputs. Values are strings, their names; methods return what they made."""

    def __init__(self):
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []
        self.states: list[StateInfo] = []
        self._constants: dict[tuple, str] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes):
        """Add a node; returns the name of its output, or a list of names where it has several."""
        names = [f"{kind}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, names[0], domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value, dtype=None) -> str:
        """The name of a constant; equal ones are stored once."""
        value = np.array(value, dtype=dtype, order="C")
        key = (value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest())
        if key not in self._constants:
            self._constants[key] = name = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(value, name))
        return self._constants[key]

    def input(self, name: str, shape, dtype=np.float32) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def output(self, value: str, name: str, shape, dtype=np.float32) -> None:
        """Make `value` an output, which its node writes without a copy; it is called `name` from now on."""
        node = next((n for n in self.nodes if value in n.output), None)
        if node is None or value in [o.name for o in self.outputs]:
            self.nodes.append(helper.make_node("Identity", [value], [name], name))
        else:
            for n in self.nodes:
                n.input[:] = [name if i == value else i for i in n.input]
            node.output[:] = [name if o == value else o for o in node.output]
        self.outputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))

    def remember(self, name: str, shape, dtype=np.float32, in_place: bool = False) -> str:
        """A state input; `update` gives what it becomes."""
        self.states.append(StateInfo(name, f"{name}.next", tuple(shape), np.dtype(dtype).name, in_place))
        return self.input(name, shape, dtype)

    def update(self, name: str, value: str) -> str:
        """Say what a state becomes; returns the name of the new value, for further use in the graph."""
        state = next(s for s in self.states if s.name == name)
        self.output(value, state.output, state.shape, np.dtype(state.dtype))
        return state.output

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def permute(self, x: str, shape: tuple[int, ...], order: tuple[int, ...]) -> str:
        """`x` of `shape`, however grouped, with its dimensions in `order`; moves nothing where it need not."""
        long = [i for i in order if shape[i] > 1]
        if long == sorted(long):
            return self.reshape(x, *(shape[i] for i in order))
        return self.op("Transpose", self.reshape(x, *shape), perm=order)

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        return self.op("Slice", x, *(self.constant([v], np.int64) for v in (start, stop, axis)))

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """(M, K) -> (M, N): x @ weight + bias."""
        extra = [] if bias is None else [self.constant(bias, np.float32)]
        return self.op("Gemm", x, self.constant(weight, np.float32), *extra)

    def linear8(self, quantized: tuple[str, str, str], weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """`linear` on 8-bit activations, see `quantize`, with 8-bit weights, one scale for each output."""
        x, scale, zero = quantized
        steps = np.maximum(np.abs(weight).max(0), 1e-12).astype(np.float32) / 127
        weight = np.round(weight / steps).astype(np.int8)
        return self.op(
            "MatMulIntegerToFloat",
            x,
            self.constant(weight),
            scale,
            self.constant(steps),
            zero,
            "",
            "" if bias is None else self.constant(bias, np.float32),
            domain=MICROSOFT,
        )

    def quantize(self, x: str) -> list[str]:
        """8-bit values, scale and zero point for the range that the tensor has in this call."""
        return self.op("DynamicQuantizeLinear", x, outputs=3)

    def model(self, name: str, producer_version: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """The finished, checked model."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="deepvqe-hub",
            producer_version=producer_version,
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model
