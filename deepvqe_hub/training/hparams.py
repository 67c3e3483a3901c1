"""Hyperparameter files that build on each other.

Networks differ in a line or two of a hundred, so a file may name one or several others that it changes:

    extends: [deepvqe_s.yaml, mini.yaml]
    number_of_epochs: 3

Files are merged in this order, later values replacing earlier ones key by key, then the command line. What comes out is
an ordinary HyperPyYAML file, in which settings still follow those that they refer to; it is saved as
`hyperparams.yaml` in the output folder and can be run, and overridden, like any other.
"""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from speechbrain.utils.run_opts import RunOptions

_INTERVALS = ("ckpt_interval_minutes", "ckpt_interval_steps")  # SpeechBrain takes one of them


def parse(arguments: list[str]) -> tuple[str, RunOptions, str]:
    """The hyperparameter file, SpeechBrain's run options and the settings (YAML) of a command line.

    Like `speechbrain.parse_arguments`, but that flags may be given True or False, as settings are, that values may
    hold equals signs, and that folders and names are what they are, whatever YAML would read in them.
    """
    flags = {option.name for option in fields(RunOptions) if option.default is False}
    options = {option.name for option in fields(RunOptions)}
    groups: list[list[str]] = [[]]  # of words: those before any option, then each option with its values
    for word in arguments:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    own, settings, off = groups[0], {}, set()
    for group in groups[1:]:
        name, equals, value = group[0][2:].partition("=")
        values = [value] * bool(equals) + group[1:]
        if name in flags and values == ["False"]:
            off.add(name)
        elif name in flags and values == ["True"]:
            own.append(f"--{name}")
        elif name in options:
            own += group
        else:
            settings[name] = _literal(name, " ".join(values))
    file, run_options, unknown = RunOptions.from_command_line_args(own)
    run_options.overridden_args.update(off)
    return file, run_options, "\n".join([*(f"{name}: {value}" for name, value in settings.items()), unknown])


def _literal(name: str, value: str) -> str:
    """A value as YAML. Of a folder or a name it is the string itself: in "/data/dns #2" is no comment, 007 no 7."""
    plain = name.endswith("_folder") or name in ("run_name", "preset", "init_from")
    return json.dumps(value) if plain and value not in ("", "null") and not value.startswith("!") else value


def merged(path: str | Path, overrides: str = "", run_options: Mapping | None = None) -> str:
    """The text of a hyperparameter file with everything that it extends, and with `overrides` (YAML) on top.

    Args:
        path: of the file.
        overrides: settings of the command line.
        run_options: SpeechBrain's options of the command line; those that the file sets as well are written into it.
            An interval of checkpoints, in minutes or in steps, goes in place of the other.

    Raises:
        ValueError: an override that is no setting of the file, one without its value, a `!PLACEHOLDER` that nothing
            replaces, or a `preset` written out that the run is to be called after.
        FileNotFoundError: no such file.
    """
    tree = _read(Path(path))
    changes = YAML().load(overrides) or {}
    for name in changes:
        if name not in tree:
            close = difflib.get_close_matches(name, tree, 1)
            hint = f"; did you mean --{close[0]}?" if close else f". Settings: {', '.join(map(str, tree))}"
            raise ValueError(f"--{name} is neither a setting of {path} nor an option of SpeechBrain{hint}")
        if changes[name] is None and isinstance(tree[name], bool):
            raise ValueError(f"--{name} needs a value: --{name} True or --{name} False")
    _update(tree, changes)
    run_options = run_options or {}
    _update(tree, {name: value for name, value in run_options.items() if name in tree})
    interval = {name: run_options[name] for name in _INTERVALS if run_options.get(name, 0) > 0}
    if interval:  # instead of the other, which the file may set
        tree.update(dict.fromkeys(_INTERVALS, 0) | interval)
    for name, value in tree.items():
        if _tag(value) == "!PLACEHOLDER":
            raise ValueError(f"{name} is not set: {path} has a placeholder there; add --{name} VALUE")
    run_name = getattr(tree.get("run_name"), "value", "")
    if isinstance(tree.get("preset"), Mapping) and "<preset>" in run_name:
        raise ValueError("run_name is not set: a preset that is written out names no folder; add --run_name NAME")
    text = io.StringIO()
    YAML().dump(tree, text)
    return text.getvalue()


def load_hparams(
    path: str | Path, overrides: str = "", run_options: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """The objects that a hyperparameter file describes, and its text as `merged` gives it, to be saved with a run.

    Raises:
        FileNotFoundError, ValueError: as `merged`.
    """
    text = merged(path, overrides, run_options)
    return load_hyperpyyaml(text), text


def _read(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no hyperparameter file {path}")
    tree = YAML().load(path.read_text(encoding="utf-8"))
    if not isinstance(tree, Mapping):
        raise ValueError(f"{path} holds no settings")
    parents = tree.pop("extends", [])
    if not parents:
        return tree
    first, *others = [parents] if isinstance(parents, str) else parents
    base = _read(path.parent / first)
    for name in others:
        _update(base, _read(path.parent / name))
    _update(base, tree)
    return base


def _update(tree: dict, changes: Mapping) -> None:
    for name, value in changes.items():
        old = tree.get(name)
        # Another class takes other arguments, so the old ones go with the old class.
        if isinstance(value, Mapping) and isinstance(old, Mapping) and _tag(value) in (None, _tag(old)):
            _update(old, value)
        else:
            tree[name] = value


def _tag(value) -> str | None:
    return getattr(getattr(value, "tag", None), "value", None)
