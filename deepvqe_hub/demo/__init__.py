"""The demo: a page in the browser to hear a model with one's own recordings. Needs the extra [demo].

>>> from deepvqe_hub.demo import build
>>> build().launch()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names, where editors and type checkers find them
    from deepvqe_hub.demo.page import LAUNCH as LAUNCH
    from deepvqe_hub.demo.page import build as build
    from deepvqe_hub.demo.studio import Studio as Studio
    from deepvqe_hub.demo.studio import Take as Take

# The work needs no Gradio, so that it can be used and tested without.
_EXPORTS = {
    "LAUNCH": "deepvqe_hub.demo.page",
    "build": "deepvqe_hub.demo.page",
    "Studio": "deepvqe_hub.demo.studio",
    "Take": "deepvqe_hub.demo.studio",
}

__all__ = ["LAUNCH", "Studio", "Take", "build"]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
