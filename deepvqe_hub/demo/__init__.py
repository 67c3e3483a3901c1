"""The demo: a page in the browser to hear a model with one's own recordings. Needs the extra [demo].

>>> from deepvqe_hub.demo import launch
>>> launch()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepvqe_hub._lazy import lazy

if TYPE_CHECKING:  # the same names, where editors and type checkers find them
    from deepvqe_hub.demo.page import build as build
    from deepvqe_hub.demo.page import launch as launch
    from deepvqe_hub.demo.studio import Studio as Studio
    from deepvqe_hub.demo.studio import Take as Take

# The work needs no Gradio, so that it can be used and tested without.
_EXPORTS = {
    "build": "deepvqe_hub.demo.page",
    "launch": "deepvqe_hub.demo.page",
    "Studio": "deepvqe_hub.demo.studio",
    "Take": "deepvqe_hub.demo.studio",
}

__all__ = ["Studio", "Take", "build", "launch"]
__getattr__ = lazy(__name__, _EXPORTS)
