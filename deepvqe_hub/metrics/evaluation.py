"""Score files: read, resample, enhance if asked, score; one after the other or in parallel processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepvqe_hub.files.samples import fitted
from deepvqe_hub.metrics._signal import SAMPLE_RATE, resample
from deepvqe_hub.metrics.registry import check_talk, chosen_metrics
from deepvqe_hub.metrics.scoring import score_channels
from deepvqe_hub.processes import worker_pool

if TYPE_CHECKING:
    from deepvqe_hub.protocols import Model

_TOLERANCE = 0.1  # seconds by which signals may differ in length without a word about it


@dataclass(frozen=True)
class Case:
    """The files that belong together.

    Attributes:
        enhanced: the file to score.
        reference, noisy, farend: clean speech, what went in, and the loudspeaker's signal, as far as there are.
        talk: talk type, "st", "nst", "dt" or None, see `deepvqe_hub.metrics.aecmos`.
        name: of the file in results, by default the file name of `enhanced`.
    """

    enhanced: str | Path
    reference: str | Path | None = None
    noisy: str | Path | None = None
    farend: str | Path | None = None
    talk: str | None = None
    name: str | None = None


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a sound file: float64 `(channels, time)`, full scale 1, and the rate in Hz; errors name the file."""
    from deepvqe_hub.files.audio import Recording  # needs soundfile, which scores alone do not

    with Recording(path) as recording:
        wav = np.concatenate(list(recording.blocks())).T
        return np.ascontiguousarray(wav, dtype=np.float64), recording.sample_rate


def load_model(model: Model | str | os.PathLike[str]) -> Model:
    """The model to evaluate; by its name, it is loaded once a process as long as its files stay what they are."""
    if not isinstance(model, (str, os.PathLike)):
        return model
    name, path = os.fspath(model), Path(model)
    files = path.iterdir() if path.is_dir() else filter(Path.is_file, [path])
    return _load(name, tuple(sorted((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)))


@functools.lru_cache(maxsize=1)
def _load(name: str, files: tuple) -> Model:
    import deepvqe_hub

    return deepvqe_hub.load(name)


def run_model(
    model: Model | str | os.PathLike[str], noisy: np.ndarray, rate: int, farend: np.ndarray | None, farend_rate: int
) -> np.ndarray:
    """Enhance `(channels, time)` at `rate`; returns as many channels at 16 kHz.

    The far end is fitted to the microphone signal. A model that takes no far end is run without.
    """
    from deepvqe_hub.files import enhance  # needs torch, which scores alone do not

    model = load_model(model)
    wav = resample(noisy, rate, model.sample_rate).T
    far = None
    if farend is not None and model.farend:
        far = fitted(resample(farend, farend_rate, model.sample_rate).T, *wav.shape)
    return resample(enhance(model, wav, model.sample_rate, far).T, model.sample_rate)


def evaluate_file(
    enhanced: str | Path | Case,
    reference: str | Path | None = None,
    *,
    noisy: str | Path | None = None,
    farend: str | Path | None = None,
    metrics: str | Iterable[str] | None = None,
    talk: str | None = None,
    model: Model | str | os.PathLike[str] | None = None,
    score_noisy: bool = True,
) -> dict[str, Any]:
    """Score one file.

    Args:
        enhanced: audio file, or a `Case` that has all paths and the talk type; any rate, every channel is scored.
        reference, noisy, farend: the files that belong to it, as far as `metrics` need them.
        metrics: names from `METRICS` or groups of them; default: all that the files allow.
        talk: "st", "nst", "dt" or None, see `deepvqe_hub.metrics.aecmos`.
        model: what `deepvqe_hub.load` gives, or a name or path for it; then `enhanced` is a noisy file that is enhanced
            in memory first.
        score_noisy: also score the noisy input, where there is one (always, with `model`).

    Returns:
        `"file"`, `"seconds"` (length of the enhanced signal), every measure by name, `"noisy_<name>"` for the
        input, and `"notes"`: what went wrong, by name of the measure or the file (`"failed"`: nothing was
        scored at all). Scores that are not defined are NaN.

    Raises:
        ValueError: unknown metric or talk type, or a metric that needs a file which is not given.
        FileNotFoundError, CheckpointError: as `deepvqe_hub.load`, for a model that cannot be loaded.
        ImportError: a package is missing; the text names the remedy.
    """
    case = enhanced if isinstance(enhanced, Case) else Case(enhanced, reference, noisy, farend, talk)
    names = chosen_metrics(metrics, _given(case, model))
    check_talk(case.talk)
    result = _blank(case) | dict.fromkeys(names, float("nan"))
    has_input = model is not None or case.noisy is not None
    input_names = [name for name in names if name != "erle"] if has_input and score_noisy else []
    result |= {f"noisy_{name}": float("nan") for name in input_names}
    notes = result["notes"]
    if model is not None:
        load_model(model)  # a wrong name is an error, not a note at the file
    try:
        wav, others = _read_case(case, model)
    except Exception as error:
        notes["failed"] = str(error)
        return result
    result["seconds"] = wav.shape[1] / SAMPLE_RATE
    for name, other in others.items():
        longer = (other.shape[1] - wav.shape[1]) / SAMPLE_RATE
        if abs(longer) > _TOLERANCE:
            notes[name] = f"{abs(longer):.2f} s {'longer' if longer > 0 else 'shorter'} than the enhanced file"
    scores, reasons = score_channels(wav, others, names, case.talk)
    result.update(scores)
    notes.update(reasons)
    if input_names:
        scores, reasons = score_channels(others["noisy"], others, input_names, case.talk)
        result.update({f"noisy_{name}": value for name, value in scores.items()})
        notes.update({f"noisy_{name}": text for name, text in reasons.items()})
    return result


def _blank(case: Case, **notes: str) -> dict[str, Any]:
    """The result for a file before it is scored, or in the place of scores."""
    return {"file": case.name or Path(case.enhanced).name, "seconds": float("nan"), "notes": notes}


def _given(case: Case, model: object) -> set[str]:
    given = {name for name in ("reference", "noisy", "farend") if getattr(case, name) is not None}
    return given | {"noisy"} if model is not None else given


def _read_case(case: Case, model: Model | str | os.PathLike[str] | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    raw = {}
    paths = {"enhanced": case.enhanced, "reference": case.reference, "noisy": case.noisy, "farend": case.farend}
    for name, path in paths.items():
        if path is not None:
            try:
                raw[name] = read_audio(path)
            except Exception as error:
                raise ValueError(f"{name} file cannot be read: {error}") from error
    wavs = {name: resample(*audio) for name, audio in raw.items()}
    wav = wavs.pop("enhanced")
    if model is not None:
        wavs["noisy"] = wav
        try:
            wav = run_model(model, *raw["enhanced"], *raw.get("farend", (None, 0)))
        except Exception as error:
            name = model if isinstance(model, (str, os.PathLike)) else "the model"
            raise ValueError(f"{name} could not enhance {case.enhanced}: {error}") from error
    return wav, wavs


def evaluate_files(
    cases: Iterable[Case | str | Path],
    *,
    metrics: str | Iterable[str] | None = None,
    model: Model | str | os.PathLike[str] | None = None,
    score_noisy: bool = True,
    jobs: int = 1,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Score many files, in parallel if asked; arguments and results as in `evaluate_file`, in the order of `cases`.

    Args:
        cases: a path is a case of nothing but the file to score.
        jobs: processes. With more than one, a script that calls this must be guarded by
            `if __name__ == "__main__":`, as the processes are started anew (spawned).
        progress: show a bar on standard error, if that is a terminal.

    A file that kills its process (audio libraries in C can) is noted as failed and the others are scored.

    Raises:
        ValueError, FileNotFoundError, CheckpointError, ImportError: as `evaluate_file`.
    """
    from tqdm import tqdm

    cases = [case if isinstance(case, Case) else Case(case) for case in cases]
    if model is not None:
        load_model(model)  # before the work begins
    options = {"metrics": metrics, "model": model, "score_noisy": score_noisy}
    for given in {frozenset(_given(case, model)) for case in cases}:
        chosen_metrics(metrics, given)  # raises what is wrong before the work begins
    with tqdm(total=len(cases), unit="file", disable=None if progress else True) as bar:
        if jobs <= 1:
            results = []
            for case in cases:
                results.append(evaluate_file(case, **options))
                bar.update()
            return results
        with _single_threaded():
            return _in_processes(cases, options, min(jobs, max(1, len(cases))), bar)


def _in_processes(cases: list[Case], options: dict[str, Any], jobs: int, bar) -> list[dict[str, Any]]:
    results: dict[int, dict[str, Any]] = {}
    while len(results) < len(cases):  # once, as a rule
        with worker_pool(jobs) as submit:
            futures = {}
            # a dead worker breaks the pool: it takes no further file, and every one not done by then fails like this
            with contextlib.suppress(BrokenProcessPool):
                for index in (index for index in range(len(cases)) if index not in results):
                    futures[submit(evaluate_file, cases[index], **options)] = index
            for future in concurrent.futures.as_completed(futures):
                with contextlib.suppress(BrokenProcessPool):
                    results[futures[future]] = future.result()
                    bar.update()
        # Files are begun in their order, so the first that are left were being scored: each gets a process of its own.
        for index in [index for index in range(len(cases)) if index not in results][:jobs]:
            with worker_pool(1) as submit:
                try:
                    results[index] = submit(evaluate_file, cases[index], **options).result()
                except BrokenProcessPool:
                    results[index] = _blank(cases[index], failed="the process that scored it died")
                bar.update()
    return [results[index] for index in range(len(cases))]


@contextlib.contextmanager
def _single_threaded():
    """One thread a process: processes share the cores already. Spawned processes inherit the environment."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
