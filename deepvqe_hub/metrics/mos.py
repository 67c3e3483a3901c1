"""Opinion scores predicted by Microsoft's networks: DNSMOS P.835 and P.808, and AECMOS.

The networks are the ONNX files inside the package `speechmos`. Only the files are used: importing that package
needs librosa and numba, which it does not declare, and runs the networks on as many threads as there are cores.
The protocol (windows, repetition, log mel spectrum, calibration) is the published one, and the scores agree
with those of `speechmos` to 1e-5.

Samples beyond -1 and 1 are clipped, as a sound card or a 16-bit file would.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from deepvqe_hub._optional import locate, need
from deepvqe_hub.metrics._signal import SAMPLE_RATE, Signal, signal
from deepvqe_hub.metrics.registry import check_talk

WINDOW = 144160  # samples, 9.01 s: the input length of the DNSMOS networks
_MIN_SECONDS = 0.25
_AECMOS_SECONDS = 20

# Polynomials from the network's outputs to MOS, highest power first (DNS challenge, dnsmos_local.py)
_CALIBRATION = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def network_file(name: str) -> Path:
    """One of the files of `speechmos`; ImportError without that package."""
    return Path(locate("speechmos", "DNSMOS or AECMOS", "metrics").submodule_search_locations[0]) / name


@functools.cache
def _network(name: str):
    """The ONNX session for one file of `speechmos`: one a process, one thread."""
    onnxruntime = need("onnxruntime", "DNSMOS or AECMOS", "metrics")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(network_file(name)), options, providers=["CPUExecutionProvider"])


@functools.cache
def mel_filters(n_fft: int, n_mels: int) -> np.ndarray:
    """Triangular filters of equal area on Slaney's mel scale, 0 to 8 kHz: `(n_mels, n_fft // 2 + 1)`."""
    # Slaney's scale: 3 mel for 200 Hz below 1 kHz, 27 mel for each factor of 6.4 above
    top = 15 + 27 * np.log(SAMPLE_RATE / 2 / 1000) / np.log(6.4)
    mel = np.linspace(0, top, n_mels + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.maximum(triangles, 0) * 2 / (high - low)


def _log_mel(wav: np.ndarray, n_fft: int, hop: int, n_mels: int) -> np.ndarray:
    """Log mel power spectrum as the networks want it: `(time,)` to float32 `(frames, n_mels)`.

    0 dB is the loudest cell of the clip, the floor is 80 dB below, and -40 dB is mapped to 0, 0 dB to 1.
    """
    padded = np.pad(wav, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    power = np.abs(np.fft.rfft(frames * window)) ** 2 @ mel_filters(n_fft, n_mels).T
    level = 10 * np.log10(np.maximum(power, 1e-10))
    level = np.maximum(level - level.max(), -80.0)
    return ((level + 40) / 40).astype(np.float32)


def _dnsmos_windows(wav: Signal, sample_rate: int) -> list[np.ndarray]:
    """The windows of 9.01 s that DNSMOS averages over: one a second, short clips repeated first."""
    wav = np.clip(signal(wav, sample_rate, "enhanced signal", seconds=_MIN_SECONDS), -1, 1)
    while wav.size < WINDOW:
        wav = np.concatenate([wav, wav])  # doubling, as in the original
    count = int(wav.size // SAMPLE_RATE - 9.01) + 1
    # The original takes this end, falls one sample short of 9.01 s by rounding at 7 to 23 s, and leaves those
    # windows out; so do we, or scores of clips over 16 s would differ from everybody's by up to 0.02.
    windows = (wav[second * SAMPLE_RATE : int((second + 9.01) * SAMPLE_RATE)] for second in range(count))
    return [window for window in windows if window.size == WINDOW]


def dnsmos_p835(wav: Signal, sample_rate: int = SAMPLE_RATE) -> dict[str, float]:
    """DNSMOS P.835: predicted quality of the speech, the background and the whole, 1 to 5, higher is better.

    Clips shorter than 9.01 s are repeated, longer ones averaged over windows that start every second. The level
    of the clip matters: nothing is normalised.

    Args:
        wav: `(time,)`, full scale is 1; at least 0.25 s.
        sample_rate: in Hz; other rates are resampled to 16 kHz.

    Returns:
        `{"sig": ..., "bak": ..., "ovrl": ...}`

    Raises:
        UnscorableError: silent, not finite or shorter than 0.25 s.
        ImportError: `speechmos` or `onnxruntime` is not installed.

    Source: Reddy et al., "DNSMOS P.835", ICASSP 2022.
    """
    network = _network("dnsmos_models/sig_bak_ovr.onnx")
    windows = _dnsmos_windows(wav, sample_rate)
    raw = [network.run(None, {"input_1": window[None].astype(np.float32)})[0][0] for window in windows]
    columns = zip(_CALIBRATION.items(), np.transpose(raw).astype(np.float64))
    return {name: float(np.polyval(polynomial, column).mean()) for (name, polynomial), column in columns}


def dnsmos_p808(wav: Signal, sample_rate: int = SAMPLE_RATE) -> float:
    """DNSMOS P.808: predicted overall quality, 1 to 5, higher is better. Arguments as in `dnsmos_p835`.

    Source: Reddy et al., "DNSMOS", ICASSP 2021.
    """
    network = _network("dnsmos_models/model_v8.onnx")
    windows = _dnsmos_windows(wav, sample_rate)
    features = [_log_mel(window[:-160], n_fft=321, hop=160, n_mels=120) for window in windows]
    return float(np.mean([network.run(None, {"input_1": feature[None]})[0] for feature in features]))


def dnsmos(wav: Signal, sample_rate: int = SAMPLE_RATE) -> dict[str, float]:
    """`dnsmos_p835` and `dnsmos_p808` together: `{"sig": ..., "bak": ..., "ovrl": ..., "p808": ...}`."""
    return dnsmos_p835(wav, sample_rate) | {"p808": dnsmos_p808(wav, sample_rate)}


def aecmos(
    enhanced: Signal,
    noisy: Signal,
    farend: Signal,
    sample_rate: int = SAMPLE_RATE,
    *,
    talk: str | None = None,
) -> dict[str, float]:
    """AECMOS: predicted annoyance by echo and by other degradations, 1 to 5, higher is better.

    The first 20 s count, and the length that all three signals share. Silence is allowed in all three: the
    enhanced signal of far-end single talk is silent at best.

    Args:
        enhanced: enhanced signal `(time,)`.
        noisy: microphone signal `(time,)` that went in.
        farend: loudspeaker signal `(time,)`.
        sample_rate: of all three, in Hz; other rates are resampled to 16 kHz.
        talk: `"st"` far-end single talk, `"nst"` near-end single talk, `"dt"` double talk; None takes the
            network that was trained without the scenario.

    Returns:
        `{"echo": ..., "deg": ...}`. The AEC challenge reads only `echo` in "st" and only `deg` in "nst".

    Raises:
        UnscorableError: not finite or shorter than 0.25 s.
        ValueError: unknown `talk`.
        ImportError: `speechmos` or `onnxruntime` is not installed.

    Source: Purin et al., "AECMOS", ICASSP 2022.
    """
    check_talk(talk)
    known = talk is not None
    network = _network(f"aecmos_models/Run_{1663915512 if known else 1663829550}_Stage_0.onnx")
    named = (("far-end signal", farend), ("microphone signal", noisy), ("enhanced signal", enhanced))
    wavs = [signal(wav, sample_rate, name, sound=False, seconds=_MIN_SECONDS) for name, wav in named]
    length = min(_AECMOS_SECONDS * SAMPLE_RATE, *(wav.size for wav in wavs))
    features = [_log_mel(np.clip(wav[:length], -1, 1), n_fft=513, hop=256, n_mels=160) for wav in wavs]
    if known:
        # 20 frames of ones, where that talker is active, or zeros, and 20 frames of zeros tell the network the scenario
        active = (talk != "nst", talk != "st", True)
        marker = np.zeros((3, 40, 160), np.float32)
        marker[:, :20] = np.array(active, np.float32)[:, None, None]
        features = [np.concatenate(both) for both in zip(features, marker)]
    state = np.zeros((4, 1, 64), np.float32)
    inputs = {network.get_inputs()[0].name: np.stack(features)[None], "h0": state}
    echo, degradation = np.ravel(network.run(None, inputs)[0])[:2]
    return {"echo": float(echo), "deg": float(degradation)}
