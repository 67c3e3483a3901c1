"""Streaming graphs: `export` writes one, `OnnxStream` and `OnnxModel` run it without torch.

>>> from deepvqe_hub.onnx import OnnxStream, export
>>> export(model, "deepvqe-s.onnx")  # doctest: +SKIP
>>> stream = OnnxStream("deepvqe-s.onnx")  # doctest: +SKIP
>>> enhanced = stream(chunk)  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deepvqe_hub._lazy import lazy

if TYPE_CHECKING:  # the same names, where editors and type checkers find them
    from deepvqe_hub.onnx.exporting import export as export
    from deepvqe_hub.onnx.model import OnnxModel as OnnxModel
    from deepvqe_hub.onnx.streams import OnnxStream as OnnxStream

# Writing a graph needs torch and onnx, running it only numpy and onnxruntime.
_EXPORTS = {
    "export": "deepvqe_hub.onnx.exporting",
    "OnnxStream": "deepvqe_hub.onnx.streams",
    "OnnxModel": "deepvqe_hub.onnx.model",
}

__all__ = ["OnnxModel", "OnnxStream", "export"]
__getattr__ = lazy(__name__, _EXPORTS)


def is_graph(name: str | os.PathLike[str]) -> bool:
    """Whether a model is named that is an exported graph: a file ending in .onnx."""
    return os.fspath(name).lower().endswith(".onnx")
