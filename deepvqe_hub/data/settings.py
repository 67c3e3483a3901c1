"""What a data set is told, checked before there are files for it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from numbers import Real

from deepvqe_hub.data.clips import Clip
from deepvqe_hub.data.noisy import NoisySpeech
from deepvqe_hub.data.pools import AudioPool


def check_settings(data_class: type[NoisySpeech], settings: Mapping) -> None:
    """Check what a data set is to be made with: names, the form of values, and whether they go together.

    Args:
        data_class: `NoisySpeech` or a class made of it.
        settings: its keyword arguments, without `size` and `seed`.

    Raises:
        ValueError: names the argument and says what it may be.
    """
    defaults = _defaults(data_class)
    for name, value in settings.items():
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(defaults)}"
            raise ValueError(f"{data_class.__name__} has no setting {name}; {hint}")
        wanted = _unmet(name, value, defaults[name])
        if wanted:
            raise ValueError(f"{name} must be {wanted}, such as {defaults[name]}; got {value!r}")
    # The constructor looks at the rest; nobody reads from these pools.
    rate = settings.get("sample_rate", defaults["sample_rate"])
    pool = AudioPool([Clip("", 1.0, speaker) for speaker in ("one", "another")], rate)
    data_class(pool, pool, **settings)


def _defaults(data_class: type) -> dict:
    """Default values of all keyword arguments, those handed on to the base class included."""
    found = {}
    for base in reversed(data_class.__mro__):
        if issubclass(base, NoisySpeech):
            parameters = inspect.signature(base.__init__).parameters.values()
            found |= {each.name: each.default for each in parameters if each.kind == each.KEYWORD_ONLY}
    return {name: default for name, default in found.items() if name not in ("size", "seed")}


def _unmet(name: str, value, default) -> str:
    """What the value of a setting is not and must be."""
    if isinstance(default, tuple):
        pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(part, Real) for part in value)
        return "" if pair and value[0] <= value[1] else "two numbers, the lower one first"
    if name.endswith("_p"):
        return "" if isinstance(value, Real) and 0 <= value <= 1 else "a chance from 0 to 1"
    if isinstance(default, int):
        return "" if isinstance(value, int) else "a whole number"
    return "" if isinstance(value, Real) else "a number"
