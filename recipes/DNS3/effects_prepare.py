"""Make training noise of folders full of sound effects, such as those of free games.

    python effects_prepare.py SOUNDS... --out datasets/noise/effects

Each SOUNDS is a folder, searched to any depth, and becomes a folder of FLAC files at 16 kHz in OUT, written completely
or not at all. Recordings of four seconds and more are cut into parts of at most a minute; shorter ones, a few kinds at
a time, are strung together at random times and levels. What says in its path that it is music or speech is left out
(`--exclude`), and so is every part in which DNSMOS hears speech: the network would learn to take speech for noise.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from deepvqe_hub.folders import audio_files
from deepvqe_hub.metrics.mos import WINDOW, dnsmos_p835

RATE = 16000
SHORT, PART, STRING = 4 * RATE, 60 * RATE, 30 * RATE
SPEECH_SIG = 2.6  # DNSMOS SIG above this: somebody speaks
LEVEL, PEAK = 10 ** (-23 / 20), 10 ** (-3 / 20)
EXCLUDE = "music|song|theme|soundtrack|jingle|title|menu|credits|voice|speech|talk|dialog|taunt|prompt|alphabet"


def read(path: Path) -> np.ndarray | None:
    """A file as mono at 16 kHz without the silence at its ends, or None where there is too little to hear."""
    try:
        with soundfile.SoundFile(path) as file:
            rate, audio = file.samplerate, file.read(600 * file.samplerate, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError):
        return None
    if rate < 11000 or len(audio) < 0.05 * rate:
        return None
    audio = audio.mean(1)
    audio = soxr.resample(audio - audio.mean(), rate, RATE)
    peak = np.abs(audio).max()
    loud = np.flatnonzero(np.abs(audio) > 0.01 * peak)
    return audio[loud[0] : loud[-1] + 1] if peak > 1e-3 and loud[-1] - loud[0] > 0.03 * RATE else None


def normalise(audio: np.ndarray) -> np.ndarray:
    """Mean level -23 dBFS, less where the peak would rise above -3 dBFS."""
    return audio * min(LEVEL / np.sqrt(np.mean(audio**2)), PEAK / np.abs(audio).max())


def string(effects: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Half a minute of effects at random times and levels, now and then one over the end of another."""
    out, position, effect = np.zeros(STRING, np.float32), 0, effects[0]
    pause = np.exp(rng.uniform(np.log(0.05), np.log(0.8))) * RATE
    while position < STRING:
        if rng.random() < 0.7:  # otherwise the same again
            effect = effects[rng.integers(len(effects))]
        part = (normalise(effect) * 10 ** (rng.uniform(-10, 0) / 20))[: STRING - position]
        fade = np.minimum(1, np.minimum(np.arange(len(part)), np.arange(len(part))[::-1]) / (0.005 * RATE))
        out[position : position + len(part)] += fade * part
        position += 400 + int(len(part) * rng.uniform(0.6, 1.0) + rng.exponential(pause))
    return out


def parts(folder: Path, exclude: str, minutes: float) -> Iterator[tuple[str, np.ndarray]]:
    """Names and signals for a folder: `minutes` of long recordings, and up to half as much of strings."""
    rng = np.random.default_rng(0)
    unwanted = re.compile(exclude, re.IGNORECASE)
    files = [path for path in sorted(audio_files(folder)) if not unwanted.search(path.relative_to(folder).as_posix())]
    short, left = [], minutes * 60 * RATE
    for index in rng.permutation(len(files)):
        audio = read(files[index]) if left > 0 else None
        if audio is None:
            continue
        if len(audio) < SHORT:
            short.append(audio)
            continue
        for start in range(0, len(audio) - SHORT + 1, PART):
            part = audio[start : start + PART]
            if np.abs(part - part.mean()).max() < 0.01 * np.abs(audio).max():
                continue  # a pause, which would be blown up to noise
            left -= len(part)
            yield re.sub(r"\W+", "-", files[index].stem)[:40], normalise(part)
    for _ in range(min(len(short) // 4, round(minutes))):
        few = rng.integers(len(short), size=rng.integers(1, 7))
        yield "effects", normalise(string([short[i] for i in few], rng))


def speaks(audio: np.ndarray) -> bool:
    """Whether DNSMOS hears speech in any of the windows that it is given, which is every other one."""
    windows = [audio[start : start + WINDOW] for start in range(0, max(1, len(audio) - WINDOW + 1), 2 * WINDOW)]
    return any(dnsmos_p835(window)["sig"] > SPEECH_SIG for window in windows if np.abs(window).max() > 1e-4)


def prepare(folder: Path, out: Path, exclude: str = EXCLUDE, minutes: float = 20.0) -> float:
    """Write the noise of one folder of sounds to the new folder `out`; returns its minutes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".effects-") as unfinished:
        kept = Path(unfinished, out.name)
        kept.mkdir()
        for number, (name, audio) in enumerate(parts(folder, exclude, minutes)):
            if not speaks(audio):
                soundfile.write(kept / f"{number:03d}_{name}.flac", audio, RATE)
                seconds += len(audio) / RATE
        if seconds:
            kept.rename(out)
    return seconds / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", nargs="+", type=Path, metavar="SOUNDS", help="folder with audio files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the noise")
    parser.add_argument("--exclude", default=EXCLUDE, help="regular expression on paths (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=20, help="of long sounds, for each folder (default: 20)")
    args = parser.parse_args()
    names = [Path(os.path.abspath(folder)).name for folder in args.sounds]  # of links their own
    for folder, name in zip(args.sounds, names):
        if names.count(name) > 1:
            parser.error(
                f"{names.count(name)} folders are called {name}, and so would be their noise; link them by other names"
            )
        if not folder.is_dir():
            parser.error(f"no folder {folder}")
        out = args.out / name
        if out.exists():
            print(f"{out} is there already and stays as it is")
        else:
            print(f"{out}: {prepare(folder, out, args.exclude, args.minutes):.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
