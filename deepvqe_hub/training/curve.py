"""Validation curves of runs as a picture.

python -m deepvqe_hub.training.curve results/deepvqe-s/1234/train_log.txt curve.png
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

LOG = "train_log.txt"


def read_log(path: str | Path) -> list[dict[str, float]]:
    """The epochs of a `train_log.txt`, each as numbers by name, such as `"hours"` and `"valid loss"`.

    An epoch that stands there twice, because the run was stopped between its end and its checkpoint, counts once.

    Raises:
        ValueError: no epoch is logged in the file.
    """
    epochs = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        found = re.findall(r"([a-z][\w ]*): (nan|[-+]?[\d.]+(?:e[-+]?\d+)?)", line)
        row = {name: float(value) for name, value in found}
        if "epoch" in row:
            epochs[row["epoch"]] = row
    if not epochs:
        raise ValueError(f"{path} logs no epoch; give the train_log.txt of a run")
    return [epochs[number] for number in sorted(epochs)]


def plot(logs: list[str | Path], out: str | Path, *, overwrite: bool = False) -> None:
    """Draw loss and validation scores of one or several runs over the hours of audio seen.

    Args:
        logs: files `train_log.txt`.
        out: picture to write, PNG or whatever matplotlib knows by the suffix.
        overwrite: replace an existing picture.

    Raises:
        FileExistsError: for an existing picture.
        ValueError: no epoch is logged in a file, or the suffix names no picture.
        ImportError: without matplotlib.
    """
    from deepvqe_hub.plots import Figure, save  # reading a log needs no matplotlib

    runs = [(_label(path, logs), read_log(path)) for path in logs]
    scores = list(dict.fromkeys(name for _, rows in runs for row in rows for name in row))
    scores = [name for name in scores if name.startswith("valid ") and name != "valid loss"]
    panels = [["train loss", "valid loss"], *([name] for name in scores)]
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, names in zip(axes[0], panels):
        for number, (label, rows) in enumerate(runs):
            for name in names:
                points = [(row["hours"], row.get(name, math.nan)) for row in rows]
                style = {"color": f"C{number}", "linestyle": ":" if name == "train loss" else "-"}
                axis.plot(*zip(*points), label=f"{label} {name.split()[0]}" if len(names) > 1 else label, **style)
        axis.set(title=names[-1].replace("valid ", "").replace("_", " "), xlabel="hours of audio seen")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize="small")
    save(figure, out, overwrite)


def _label(path: str | Path, logs: list[str | Path]) -> str:
    """The folder of the run, or what in its path tells it from the other runs."""
    paths = [Path(log).resolve().parts for log in logs]
    parts = Path(path).resolve().parts
    differing = [part for level, part in enumerate(parts) if len({row[level : level + 1] for row in paths}) > 1]
    return "/".join(part for part in differing if part != LOG) or parts[-2]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deepvqe_hub.training.curve", description="Draw the validation curves of runs."
    )
    parser.add_argument("logs", nargs="+", metavar="train_log.txt", help="logs of one or several runs")
    parser.add_argument("out", help="picture to write, such as curve.png")
    parser.add_argument("--force", action="store_true", help="replace an existing picture")
    options = parser.parse_args(arguments)
    plot(options.logs, options.out, overwrite=options.force)


if __name__ == "__main__":
    main()
