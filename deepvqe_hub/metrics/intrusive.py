"""Measures that compare with a second signal: SI-SDR, PESQ, STOI, ESTOI (the clean reference) and ERLE (the input).

No measure here aligns its signals: an enhanced signal that is late is scored as it stands (PESQ alone
estimates delays by itself). Signals are `(time,)` tensors or arrays.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from deepvqe_hub._optional import need
from deepvqe_hub.metrics._signal import SAMPLE_RATE, SILENCE, Signal, UnscorableError, decibels, pair, signal

_PESQ_SECONDS = 20.0
_PESQ_PAUSE = 0.01  # peak of a piece beside that of the whole reference: 40 dB, from where STOI leaves frames out, too
_PESQ_LOWEST = 0.999 + 4 / (1 + math.exp(1.3669 * 0.5 + 3.8224))  # P.862.2's mapping of P.862's least score, -0.5


def si_sdr(enhanced: Signal, reference: Signal, *, zero_mean: bool = True) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, higher is better, within -100 and 100.

    Args:
        enhanced: enhanced signal `(time,)`.
        reference: clean reference `(time,)`, sample-aligned.
        zero_mean: subtract the mean of both first, so that a constant offset costs nothing (the paper's
            definition assumes zero-mean signals; `torchmetrics` leaves the means in unless asked).

    Raises:
        UnscorableError: a signal is silent (also: constant, with `zero_mean`), empty or not finite.
        ValueError: the shapes differ.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, equation 5.
    """
    enhanced, reference = pair(enhanced, reference, SAMPLE_RATE)
    if zero_mean:
        enhanced, reference = enhanced - enhanced.mean(), reference - reference.mean()
    if not (np.any(enhanced) and np.any(reference)):
        raise UnscorableError("a signal is constant")
    scaled = reference * (enhanced @ reference) / (reference @ reference)
    error = enhanced - scaled
    return decibels(scaled @ scaled, error @ error)


def pesq_wb(enhanced: Signal, reference: Signal, sample_rate: int = SAMPLE_RATE) -> float:
    """PESQ, wide band: a MOS-LQO between 1.04 and 4.64, higher is better.

    Clips over 20 s are cut into equal pieces of at most 20 s and their scores averaged: the ITU code that the `pesq`
    package wraps has room for 50 utterances and crashes the whole process beyond them. A piece in which the reference
    stays 40 dB below its peak is a pause and does not count; one with speech that the enhanced signal leaves silent
    (peak below -100 dBFS) has the lowest score. PESQ aligns levels, here piece by piece: a piece that is merely much
    quieter than the others loses nothing.

    Args:
        enhanced: enhanced signal `(time,)`.
        reference: clean reference `(time,)`.
        sample_rate: of both, in Hz; other rates are resampled to 16 kHz.

    Raises:
        UnscorableError: silent, not finite, shorter than 0.25 s, or no utterance found.
        ImportError: `pesq` is not installed.

    Source: ITU-T P.862 and P.862.2 (2007).
    """
    package = need("pesq", "PESQ", "metrics")
    enhanced, reference = pair(enhanced, reference, sample_rate, seconds=0.25)
    pieces = int(np.ceil(reference.size / (_PESQ_SECONDS * SAMPLE_RATE)))
    least, scores = _PESQ_PAUSE * np.abs(reference).max(), []
    for part_enhanced, part_reference in zip(np.array_split(enhanced, pieces), np.array_split(reference, pieces)):
        if np.abs(part_reference).max() < least:  # scaled up, its noise would pass for speech
            continue
        if np.abs(part_enhanced).max() < SILENCE:  # PESQ would scale up what little is left
            scores.append(_PESQ_LOWEST)
            continue
        try:
            scores.append(package.pesq(SAMPLE_RATE, part_reference, part_enhanced, "wb"))
        except package.NoUtterancesError:
            continue
    if not scores:
        raise UnscorableError("PESQ found no utterance")
    return float(np.mean(scores))


def stoi(enhanced: Signal, reference: Signal, sample_rate: int = SAMPLE_RATE, *, extended: bool = False) -> float:
    """Short-time objective intelligibility: about 0 to 1, higher is better.

    Args:
        enhanced: enhanced signal `(time,)`.
        reference: clean reference `(time,)`; frames where it is 40 dB below its loudest are left out.
        sample_rate: of both, in Hz (the measure itself works at 10 kHz).
        extended: ESTOI, which also follows modulated noise.

    Raises:
        UnscorableError: silent, not finite, or less than 0.4 s of speech.
        ImportError: `pystoi` is not installed.

    Source: Taal et al., IEEE TASLP 19(7), 2011; extended: Jensen and Taal, IEEE TASLP 24(11), 2016.
    """
    package = need("pystoi", "ESTOI" if extended else "STOI", "metrics")
    enhanced, reference = pair(enhanced, reference, sample_rate, seconds=0.4)
    with warnings.catch_warnings():
        # pystoi warns and returns 1e-5 for too little speech: a number that would pass for a score
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(reference, enhanced, SAMPLE_RATE, extended=extended))
        except RuntimeWarning:
            raise UnscorableError("STOI needs at least 0.4 s of speech") from None


def estoi(enhanced: Signal, reference: Signal, sample_rate: int = SAMPLE_RATE) -> float:
    """Extended STOI: `stoi` with `extended=True`."""
    return stoi(enhanced, reference, sample_rate, extended=True)


def erle(enhanced: Signal, noisy: Signal) -> float:
    """Echo return loss enhancement in dB: how much energy was taken away, within -100 and 100.

    The energy of the whole microphone signal against that of the whole enhanced signal. It says something about
    echo only where nobody talks at the near end (far-end single talk), and counts removed noise as echo.

    Args:
        enhanced: enhanced signal `(time,)`; silence gives 100 dB.
        noisy: microphone signal `(time,)` that went in.

    Raises:
        UnscorableError: the microphone is silent, or a signal is empty or not finite.
        ValueError: the lengths differ.

    Source: ITU-T G.168, "echo return loss enhancement"; here over the clip instead of over time.
    """
    enhanced = signal(enhanced, SAMPLE_RATE, "enhanced signal", sound=False)
    noisy = signal(noisy, SAMPLE_RATE, "microphone signal")
    if enhanced.size != noisy.size:
        raise ValueError(f"enhanced and microphone signal differ in length: {enhanced.size} and {noisy.size} samples")
    return decibels(noisy @ noisy, enhanced @ enhanced)
