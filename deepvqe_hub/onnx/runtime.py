"""Running exported graphs on numpy arrays with onnxruntime; torch is not needed."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import numpy as np

from deepvqe_hub.onnx.description import read_info
from deepvqe_hub.onnx.spectra import Fourier, Framer

BLOCK_SECONDS = 4  # of a long signal in one go


class Step:
    """One call of a graph: fill :attr:`inputs`, call, read :attr:`output`. States stay in memory bound once.

    Args:
        path: an exported file.
        threads: of onnxruntime.
        providers: onnxruntime's execution providers, best first; None is the CPU.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1, providers: Sequence | None = None):
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise ImportError("running ONNX files needs onnxruntime: pip install deepvqe-hub[onnx]") from error
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path}; make one with: deepvqe export MODEL {path}")
        if not (isinstance(threads, int) and threads >= 1):
            raise ValueError(f"threads must be a whole number from 1, not {threads!r}")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # Feature maps fade towards zero in silence, and arithmetic on denormal numbers is a hundred times slower.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            self.session = ort.InferenceSession(
                os.fspath(path), options, providers=list(providers or ["CPUExecutionProvider"])
            )
        except Exception as error:  # onnxruntime has a class for each of its error codes, and no common one
            raise ValueError(f"onnxruntime cannot open {path}: {error}") from error
        self.info = read_info(self.session, path)

        shapes = {x.name: tuple(x.shape) for x in self.session.get_inputs()}
        names = ["noisy", "farend"] if self.info["farend"] else ["noisy"]
        self.inputs = [np.zeros(shapes[name], np.float32) for name in names]
        self.output = np.zeros_like(self.inputs[0])
        # Two copies of each state, of which calls read and write in turn; a state may say that one will do.
        self._states, self._turn = [], 0
        self._bindings = [self.session.io_binding(), self.session.io_binding()]
        wrap = ort.OrtValue.ortvalue_from_numpy  # shares the array's memory
        for binding in self._bindings:
            for name, array in zip(names, self.inputs, strict=True):
                binding.bind_ortvalue_input(name, wrap(array))
            binding.bind_ortvalue_output("enhanced", wrap(self.output))
        for state in self.info["states"]:
            pair = [np.zeros(state["shape"], state["dtype"]) for _ in range(1 if state["in_place"] else 2)]
            values = [wrap(array) for array in pair] * (3 - len(pair))
            for turn, binding in enumerate(self._bindings):
                binding.bind_ortvalue_input(state["name"], values[turn])
                binding.bind_ortvalue_output(state["output"], values[1 - turn])
            self._states.append((state["name"], pair))

    def __call__(self) -> np.ndarray:
        self.session.run_with_iobinding(self._bindings[self._turn])
        self._turn ^= 1
        return self.output

    def reset(self) -> None:
        for _, pair in self._states:
            for array in pair:
                array.fill(0)

    def set_state(self, name: str, value: np.ndarray) -> None:
        """Overwrite what the next call reads as state ``name``."""
        pair = dict(self._states)[name]
        pair[self._turn % len(pair)][...] = value


class OnnxStream:
    """Live enhancement by an exported graph: the call of ``model.stream()``, on numpy arrays.

    Outputs joined are exactly as long as the inputs and aligned with them.

    Args:
        path: a file written by :func:`deepvqe_hub.onnx.export`.
        threads: of onnxruntime; one is best for live audio, more help only the largest networks.
        providers: onnxruntime's execution providers, best first; None is the CPU.

    Shapes: chunks are (time,) for one stream, or (batch_size, time), floating point, nominally within ±1, at
    ``sample_rate``. Far-end and microphone chunks are equally long.

    Raises:
        ImportError: without onnxruntime.
        FileNotFoundError, ValueError: for a path that is no exported graph.
    """

    def __init__(self, path: str | os.PathLike, *, threads: int = 1, providers: Sequence | None = None):
        self._step = Step(path, threads, providers)
        info = self._step.info
        self.config, self.sample_rate, self.farend = info["config"], info["sample_rate"], info["farend"]
        self.batch_size, self.frames = info["batch_size"], info["frames"]
        self._stft, self._waveform = info["stft"], info["input"] == "waveform"
        self.hop_length = self._stft["hop_length"]
        self.reset()

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds: how long a sample waits at most until it comes out."""
        samples = self._stft["win_length"] + (self.frames - 1) * self._stft["hop_length"]
        return samples / self.sample_rate

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal."""
        shape = (self._stft, self.batch_size, self.frames)
        self._step.reset()
        self._framers = [Framer(*shape) for _ in self._step.inputs]
        self._fourier = None if self._waveform else Fourier(*shape)
        self._overlap = self._stft["win_length"] - self._stft["hop_length"]
        self._skip = 0 if self._stft["padding"] == "none" else self._overlap  # of the padding before the signal
        self._due = 0  # samples taken in and not yet given out
        self._first = True

    def __call__(self, chunk: np.ndarray, farend: np.ndarray | None = None) -> np.ndarray:
        """Take in a chunk (and what the loudspeaker plays meanwhile); return the samples that are ready, maybe none."""
        enhanced = self._run(self._inputs(chunk, farend))
        return enhanced if np.ndim(chunk) == 2 else enhanced[0]

    def flush(self) -> np.ndarray:
        """End the signal: the samples still due, (batch_size, time), or (time,) for one stream. Then :meth:`reset`."""
        empty = np.zeros((self.batch_size, 0), np.float32)
        wave = self._run([empty for _ in self._framers], last=True)
        self.reset()
        return wave[0] if self.batch_size == 1 else wave

    def _run(self, waves: list[np.ndarray], last: bool = False) -> np.ndarray:
        self._due += waves[0].shape[1]
        done = []
        blocks = [framer.blocks(wave, last) for framer, wave in zip(self._framers, waves, strict=True)]
        for parts in zip(*blocks, strict=True):
            out = self._waves(parts) if self._waveform else self._spectra(parts)
            out = out[:, self._skip :]
            self._skip -= min(self._skip, self.frames * self._stft["hop_length"])
            out = out[:, : self._due]
            self._due -= out.shape[1]
            done.append(out)
        return np.concatenate(done, 1) if done else np.zeros((self.batch_size, 0), np.float32)

    def _spectra(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        for part, spec in zip(parts, self._step.inputs, strict=True):
            self._fourier.analyse(part, spec)
        wave = np.empty((self.batch_size, self.frames * self._stft["hop_length"]), np.float32)
        self._fourier.synthesise(self._step(), wave)
        return wave

    def _waves(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        for name, part, wave in zip(("noisy", "farend"), parts, self._step.inputs, strict=False):
            if self._first:
                self._step.set_state(f"{name}.past", part[:, : self._overlap])
            wave[...] = part[:, self._overlap :]
        self._first = False
        return self._step().copy()

    def _inputs(self, chunk: np.ndarray, farend: np.ndarray | None) -> list[np.ndarray]:
        """What the graph takes, each (batch_size, time), or an error; nothing is taken in yet."""
        waves = [self._checked(chunk, "chunk")]
        if farend is not None and not self.farend:
            raise ValueError("this graph has no far-end input; export an echo-cancelling model, such as deepvqe-aec-s")
        if self.farend:
            waves.append(np.zeros_like(waves[0]) if farend is None else self._checked(farend, "farend"))
            if waves[1].shape != waves[0].shape:
                raise ValueError(
                    f"farend chunk {np.shape(farend)} and microphone chunk {np.shape(chunk)} differ in shape"
                )
        return waves

    def _checked(self, chunk: np.ndarray, name: str) -> np.ndarray:
        """``chunk`` as (batch_size, time) in float32, or an error that names it."""
        wave = np.asarray(chunk)
        if not np.issubdtype(wave.dtype, np.floating):
            raise ValueError(f"{name} has dtype {wave.dtype}; convert it to floating point within ±1")
        if wave.ndim not in (1, 2) or (wave[None] if wave.ndim == 1 else wave).shape[0] != self.batch_size:
            raise ValueError(f"{name} has shape {wave.shape}; this stream takes ({self.batch_size}, time)")
        if not np.isfinite(wave).all():
            raise ValueError(f"{name} contains NaN or Inf; repair the recording, for example with numpy.nan_to_num")
        return (wave[None] if wave.ndim == 1 else wave).astype(np.float32, copy=False)


class OnnxStreams:
    """Several streams of one graph side by side, as one: chunks are (batch_size, time)."""

    def __init__(self, streams: list[OnnxStream]):
        self._streams = streams
        self.batch_size = sum(stream.batch_size for stream in streams)
        self.frames, self.latency = streams[0].frames, streams[0].latency

    def reset(self) -> None:
        for stream in self._streams:
            stream.reset()

    def __call__(self, chunk: np.ndarray, farend: np.ndarray | None = None) -> np.ndarray:
        if np.ndim(chunk) != 2 or len(chunk) != self.batch_size:
            raise ValueError(f"chunk has shape {np.shape(chunk)}; these streams take ({self.batch_size}, time)")
        if farend is not None and np.shape(farend) != np.shape(chunk):
            raise ValueError(f"farend chunk {np.shape(farend)} and microphone chunk {np.shape(chunk)} differ in shape")
        count = len(self._streams)
        mics = np.split(np.asarray(chunk), count)
        fars = [None] * count if farend is None else np.split(np.asarray(farend), count)
        # All are checked before one takes its part: a refused chunk leaves no stream ahead of the others.
        waves = [stream._inputs(mic, far) for stream, mic, far in zip(self._streams, mics, fars)]
        return np.concatenate([stream._run(wave) for stream, wave in zip(self._streams, waves)])

    def flush(self) -> np.ndarray:
        return np.concatenate([np.atleast_2d(stream.flush()) for stream in self._streams])


class OnnxModel:
    """Whole signals through an exported graph; looks like an ``EnhancementModel``.

    Args:
        path, threads, providers: as for :class:`OnnxStream`.
    """

    def __init__(self, path: str | os.PathLike, *, threads: int = 1, providers: Sequence | None = None):
        self._stream = OnnxStream(path, threads=threads, providers=providers)
        self._options = {"path": path, "threads": threads, "providers": providers}
        self.config, self.sample_rate = self._stream.config, self._stream.sample_rate
        self.farend, self.latency = self._stream.farend, self._stream.latency
        self.hop_length = self._stream.hop_length

    def stream(self, batch_size: int | None = None) -> OnnxStream | OnnxStreams:
        """A live stream of its own, of as many signals as the graph takes, or of ``batch_size`` side by side."""
        size = self._stream.batch_size
        if batch_size is None or batch_size == size:
            return OnnxStream(**self._options)
        if batch_size < 1 or batch_size % size:
            raise ValueError(f"this graph takes {size} signals at a time; batch_size {batch_size} is no multiple")
        return OnnxStreams([OnnxStream(**self._options) for _ in range(batch_size // size)])

    def __reduce__(self):  # for other processes: a session cannot be copied, its file can be opened again
        return functools.partial(OnnxModel, **self._options), ()

    def __call__(self, noisy, farend=None, lengths=None):
        """Enhance whole signals, (..., time) -> (..., time); arrays give arrays, torch tensors give tensors.

        Args:
            noisy: microphone signals, floating point, nominally within ±1, at ``sample_rate``.
            farend: loudspeaker signals of the same shape for echo-cancelling graphs; None is silence.
            lengths: for a padded batch (batch, time), relative lengths in 0..1, as in SpeechBrain; what lies beyond is
                ignored and comes out as zeros.

        Raises:
            ValueError: for integers, NaN or Inf, or shapes that do not fit.
        """
        if type(noisy).__module__.startswith("torch"):
            import torch

            far = None if farend is None else farend.detach().cpu().numpy()
            return torch.from_numpy(self(noisy.detach().cpu().numpy(), far, lengths)).to(noisy)
        noisy = np.asarray(noisy)
        if noisy.ndim == 0:
            raise ValueError("noisy is a single number; its last dimension must be time")
        if farend is not None and np.shape(farend) != noisy.shape:
            raise ValueError(f"farend {np.shape(farend)} and noisy {noisy.shape} differ in shape")
        if lengths is not None:
            return self._padded(noisy, farend, np.asarray(lengths))
        if noisy.size == 0:
            return noisy.astype(np.float32)
        # Signals that do not fill the graph's batch are joined by silence.
        size, time = self._stream.batch_size, noisy.shape[-1]
        flat = noisy.reshape(-1, time)
        far = None if farend is None else np.asarray(farend).reshape(-1, time)
        enhanced = np.empty(flat.shape, np.float32)
        for start in range(0, len(flat), size):
            rows = slice(start, start + size)
            enhanced[rows] = self._enhance(flat[rows], None if far is None else far[rows])
        return enhanced.reshape(noisy.shape)

    def _padded(self, noisy: np.ndarray, farend, lengths: np.ndarray) -> np.ndarray:
        """A batch of signals of different lengths, each as if it were alone."""
        if noisy.ndim != 2 or lengths.shape != noisy.shape[:1]:
            raise ValueError(f"lengths {lengths.shape} needs noisy of shape (batch, time), not {noisy.shape}")
        if not ((lengths > 0) & (lengths <= 1)).all():
            raise ValueError("lengths are relative: greater than 0, at most 1")
        enhanced = np.zeros(noisy.shape, np.float32)
        for row, length in enumerate(lengths.tolist()):
            part = (row, slice(round(length * noisy.shape[1])))
            enhanced[part] = self(noisy[part], None if farend is None else np.asarray(farend)[part])
        return enhanced

    def _enhance(self, noisy: np.ndarray, farend: np.ndarray | None) -> np.ndarray:
        stream, count = self._stream, len(noisy)
        stream.reset()
        fill = ((0, stream.batch_size - count), (0, 0))
        block, out, done = BLOCK_SECONDS * self.sample_rate, np.empty(noisy.shape, np.float32), 0
        for start in range(0, noisy.shape[1], block):
            part = slice(start, start + block)
            far = () if farend is None else (np.pad(farend[:, part], fill),)
            ready = stream(np.pad(noisy[:, part], fill), *far)[:count]
            out[:, done : done + ready.shape[1]] = ready
            done += ready.shape[1]
        if noisy.shape[1]:
            out[:, done:] = stream.flush().reshape(stream.batch_size, -1)[:count]
        return out
