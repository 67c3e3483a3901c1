"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping


def lazy(package: str, exports: Mapping[str, str], submodules: Collection[str] = ()) -> Callable[[str], object]:
    """The `__getattr__` of a package (PEP 562): `exports` says which module has a name."""

    def __getattr__(name: str):
        if name in exports:
            return getattr(importlib.import_module(exports[name]), name)
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
