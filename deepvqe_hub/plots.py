"""Pictures of what models do: spectrograms before and after, echo delays, quality against cost. Needs [plot]."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepvqe_hub._optional import need
from deepvqe_hub.atomic import atomic_write
from deepvqe_hub.files.audio import Recording, Source
from deepvqe_hub.files.blocks import FarEnd, resampled

if TYPE_CHECKING:
    from deepvqe_hub.enhancement import EnhancementModel
    from deepvqe_hub.protocols import Model

Figure = need("matplotlib.figure", "drawing", "plot").Figure  # without pyplot: no display, no global state
PLOT_SECONDS = 120  # of a long recording
COLUMNS = 1500  # of a spectrogram at most; a page shows no more
RANGE_DB = 80


def check_format(path: str | os.PathLike[str]) -> None:
    """Raise ValueError where the ending of `path`, if it has one, names no format that can be drawn."""
    endings, ending = Figure().canvas.get_supported_filetypes(), os.path.splitext(path)[1].lower()[1:]
    if ending and ending not in endings:
        raise ValueError(f"{os.fspath(path)}: the name of a picture ends in one of .{', .'.join(sorted(endings))}")


def plot_enhancement(
    noisy: Source,
    enhanced: Source,
    path: str | os.PathLike[str],
    *,
    model: Model | None = None,
    farend: Source | None = None,
    seconds: float = PLOT_SECONDS,
    overwrite: bool = False,
) -> None:
    """Draw spectrograms of two sound files, one above the other; with a far end, also its own and the echo delay.

    Args:
        noisy, enhanced: sound files; their first channels are drawn.
        path: picture to write; the extension gives the format, such as .png.
        model, farend: an echo-cancelling model and its loudspeaker signal: shows how probable it held each delay, which
            an exported graph and a network without alignment do not tell.
        seconds: how much is drawn, from the start.
        overwrite: replace an existing picture.

    Raises:
        FileNotFoundError, FileExistsError: for a missing sound file or an existing picture.
        AudioFileError, ValueError: for files that are no audio, and an extension that names no picture.
    """
    titles, files = ["before", "after"], [noisy, enhanced]
    if farend is not None:
        titles, files = [*titles, "far end"], [*files, farend]
    signals = [_read(file, seconds) for file in files]
    spectrograms = [spectrogram(wave, rate) for wave, rate in signals]
    with_delay = farend is not None and getattr(model, "finds_delay", False)
    rows = len(files) + with_delay

    duration = len(signals[0][0]) / signals[0][1]

    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    top = max(picture.max() for picture in spectrograms)  # one scale for all, so that they compare
    for ax, title, picture, (wave, rate) in zip(axes, titles, spectrograms, signals):
        extent = (0, len(wave) / rate, 0, rate / 2000)
        image = ax.imshow(
            picture, origin="lower", aspect="auto", extent=extent, vmin=top - RANGE_DB, vmax=top, cmap="magma"
        )
        ax.set(title=title, ylabel="kHz", xlim=(0, duration))
    figure.colorbar(image, ax=list(axes[: len(files)]), label="dB")
    if with_delay:
        delay = delay_distribution(model, noisy, farend, seconds)
        longest = delay.shape[1] * model.hop_length / model.sample_rate
        extent = (0, duration, 0, longest * 1000)
        image = axes[-1].imshow(delay.T, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=1, cmap="viridis")
        axes[-1].set(title="estimated echo delay", ylabel="ms")
        figure.colorbar(image, ax=axes[-1], label="probability")
    axes[-1].set_xlabel("s")

    save(figure, path, overwrite)


class Point(NamedTuple):
    """A model in `plot_comparison`: its cost, and the `mean`, `low` and `high` of its quality."""

    label: str
    cost: float
    quality: Mapping[str, float]
    streams: bool


def plot_comparison(
    points: Sequence[Point],
    path: str | os.PathLike[str],
    cost: str,
    quality: str,
    unprocessed: float | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Draw the quality of models, with intervals, against their cost on a logarithmic axis.

    Args:
        points: the models; those that stream are drawn as discs, those that need the whole signal as squares.
        path: picture to write; the extension gives the format, such as .png.
        cost, quality: labels of the axes.
        unprocessed: quality of the input, drawn as a line.
        overwrite: replace an existing picture.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    for point in points:
        mean, low, high = (point.quality[key] for key in ("mean", "low", "high"))
        ax.errorbar(
            point.cost, mean, [[mean - low], [high - mean]], fmt="o" if point.streams else "s", capsize=3, markersize=7
        )
        ax.annotate(point.label, (point.cost, mean), xytext=(7, 5), textcoords="offset points")
    if unprocessed is not None:
        ax.axhline(unprocessed, color="gray", linestyle=":")
        ax.annotate("unprocessed", (0.99, unprocessed), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    ax.set(xscale="log", xlabel=cost, ylabel=quality)
    ax.margins(x=0.25)
    ax.grid(alpha=0.3)
    save(figure, path, overwrite)


def spectrogram(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels in dB, (bins, columns), of a signal (time,) in windows of 32 ms."""
    size = max(64, round(0.032 * sample_rate))
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    step = max(size // 4, math.ceil(len(wave) / COLUMNS))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2 / size
    return 10 * np.log10(power.T + 1e-12)


def delay_distribution(model: EnhancementModel, noisy: Source, farend: Source, seconds: float) -> np.ndarray:
    """Probability of each echo delay over the first `seconds` of two sound files, (frames, dmax)."""
    rate = model.sample_rate
    with Recording(noisy) as recording, Recording(farend) as loudspeaker:
        blocks = (block[:, :1] for block in recording.blocks(seconds))
        mic = np.concatenate(list(resampled(blocks, recording.sample_rate, rate, 1)))
        far = FarEnd(
            loudspeaker.blocks(), loudspeaker.sample_rate, loudspeaker.channels, target_rate=rate, target_channels=1
        ).get(len(mic))
    device = next(model.parameters()).device
    waves = (torch.from_numpy(wave[:, 0].copy()).to(device) for wave in (mic, far))
    return model.delay_distribution(*waves).float().cpu().numpy()


def _read(file: Source, seconds: float) -> tuple[np.ndarray, int]:
    with Recording(file) as recording:
        return np.concatenate([block[:, 0] for block in recording.blocks(seconds)]), recording.sample_rate


def save(figure: Figure, path: str | os.PathLike[str], overwrite: bool) -> None:
    """Write a picture, whole or not at all; the extension of `path` gives the format, PNG without one.

    Raises:
        FileExistsError: it is there and `overwrite` is not set.
        ValueError: for another extension.
    """
    with atomic_write(path, overwrite=overwrite) as part:
        figure.savefig(part, format=os.path.splitext(path)[1][1:] or "png", dpi=100)
