"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping

WITHOUT_TORCH = (
    "PyTorch is missing: pip install torch. Without PyTorch use deepvqe_hub.onnx.OnnxStream or OnnxModel, or "
    "`deepvqe stream --model FILE.onnx`, with a graph that `deepvqe export` wrote elsewhere"
)
"""What to say where torch is missing."""


def lazy(package: str, exports: Mapping[str, str], submodules: Collection[str] = ()) -> Callable[[str], object]:
    """The `__getattr__` of a package (PEP 562): `exports` says which module has a name."""

    def __getattr__(name: str):
        if name in exports:
            try:
                module = importlib.import_module(exports[name])
            except ModuleNotFoundError as error:
                if error.name != "torch":
                    raise
                raise ImportError(f"{package}.{name}: {WITHOUT_TORCH}", name="torch") from error
            return getattr(module, name)
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
