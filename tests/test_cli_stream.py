"""deepvqe stream, with pipes and devices that the tests play."""

import contextlib
import gc
import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch

from deepvqe_hub.cli import _live, main
from deepvqe_hub.cli import stream as command
from deepvqe_hub.resampling import Resampler


class Echoless:
    """Stands for a model's stream: subtracts half the far end, keeps back what does not fill a hop of 256 samples."""

    sample_rate, farend, latency, batch_size, call_samples = 16000, True, 512 / 16000, 1, 256

    def __init__(self):
        self.waiting = np.zeros(0, np.float32)

    def __call__(self, chunk, farend=None):
        clean = chunk if farend is None else chunk - farend / 2
        self.waiting = np.concatenate([self.waiting, clean])
        ready = max(0, len(self.waiting) - 256) // 256 * 256
        out, self.waiting = self.waiting[:ready], self.waiting[ready:]
        return out

    def reset(self):
        self.waiting = self.waiting[:0]

    def flush(self):
        out, self.waiting = self.waiting, np.zeros(0, np.float32)
        return out


def tone(seconds, rate):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 48000, 44100, 8000])
@pytest.mark.parametrize("fmt", ["s16le", "f32le"])
def test_pipe_keeps_length_and_time(rate, fmt):
    wave = tone(1.3, rate)
    data = _live.encode(wave, _live.FORMATS[fmt])
    pieces = [data[i : i + 1001] for i in range(0, len(data), 1001)]  # cuts samples in two
    written = []
    converter = _live.Converter(Echoless(), rate)
    _live.pipe(converter, lambda n: pieces.pop(0) if pieces else b"", written.append, fmt)
    out = _live.decode(b"".join(written), _live.FORMATS[fmt], 1)[:, 0]
    assert out.shape == wave.shape
    np.testing.assert_allclose(out[500:-500], wave[500:-500], atol=2e-3)
    assert len(written) > 3 and converter.latency < 0.05 * rate


@pytest.mark.parametrize("rates", [(48000, 16000), (16000, 44100), (8000, 16000), (11025, 16000)])
def test_resampler_equals_one_for_files(rates):
    source, target = rates
    noise = soxr.resample(np.random.default_rng(0).standard_normal(3200), 6000, source)  # below 3 kHz
    wave = tone(0.5, source)
    wave = np.stack([wave, noise[: len(wave)]], 1).astype(np.float32)
    convert, parts, at = Resampler(source, target, 2), [], 0
    for size in [1, 7, 500, 0, 33] * 1000:
        parts.append(convert(wave[at : at + size]))
        at += size
        if at >= len(wave):
            break
    out = np.concatenate([*parts, convert(wave[:0], last=True)])
    wanted = soxr.resample(wave, source, target)
    assert abs(len(out) - len(wanted)) <= 1
    middle = slice(target // 20, target // 20 * 9)
    np.testing.assert_allclose(out[middle], wanted[middle], atol=1e-3)


def test_far_end_is_the_second_channel():
    mic, far = tone(0.5, 16000), np.full(8000, 0.2, np.float32)
    data, written = np.stack([mic, far], 1).tobytes(), []
    pieces = [data, b""]
    _live.pipe(_live.Converter(Echoless(), 16000, 2), lambda n: pieces.pop(0), written.append, "f32le")
    np.testing.assert_allclose(np.frombuffer(b"".join(written), "<f4"), mic - 0.1, atol=1e-6)


def piped(data: bytes, fmt: str) -> list[str]:
    pieces = [data, b""]
    return _live.pipe(_live.Converter(Echoless(), 16000), lambda n: pieces.pop(0), lambda data: None, fmt)


def test_what_is_strange_about_raw_samples_is_said():
    assert piped(tone(0.5, 16000).tobytes(), "f32le") == []
    (said,) = piped(tone(0.5, 16000).tobytes() + b"xyz", "f32le")
    assert said.startswith("3 bytes at the end are no whole sample")
    (said,) = piped(np.array([0.1, np.nan, 1e9, 0.1], "<f4").tobytes(), "f32le")
    assert said.startswith("2 samples that were NaN or beyond any sound")


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"])
def test_a_sound_file_is_no_raw_pcm(kind):
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16000, 1, format=kind) as sound:
        if kind == "MP3":  # which begins with a title that is too long for the tag at the end
            sound.title = 40 * "la"
        sound.write(tone(0.5, 16000))
    with pytest.raises(ValueError, match="is a sound file and no raw PCM; deepvqe enhance -"):
        piped(file.getvalue(), "s16le")


def test_samples_out_of_range_are_clipped_and_nan_is_silence():
    assert np.frombuffer(_live.encode(np.array([2.0, -2.0]), np.dtype("<i2")), "<i2").tolist() == [32767, -32768]
    assert _live.decode(np.array([np.nan, np.inf], "<f4").tobytes(), np.dtype("<f4"), 1).tolist() == [[0], [0]]
    garbled = np.array([[-3e38, 2], [1, np.nan]], "<f4")  # the first would leave a network's state NaN for good
    assert _live.decode(garbled.tobytes(), np.dtype("<f4"), 2).tolist() == [[0, 2], [1, 0]]


class Device:
    """Plays `wave` to the program and records what it plays."""

    def __init__(self, wave, overflow_at=()):
        self.wave, self.at, self.played, self.overflow_at = wave, 0, [], overflow_at

    def read(self, n):
        data = self.wave[self.at : self.at + n]
        self.at += n
        return data[:, None] if data.ndim == 1 else data, self.at // n in self.overflow_at

    def write(self, data):
        self.played.append(data[:, 0].copy())
        return False


@pytest.mark.parametrize("rate", [16000, 48000])
def test_live_has_constant_latency(rate):
    wave = tone(2.0, rate)
    block = rate // 100
    device = Device(wave)
    loop = _live.Live(_live.Converter(Echoless(), rate), device, block)
    for i in range(len(wave) // block):
        loop.bypass = 100 <= i < 120
        loop.step()
        assert len(loop._ready) < rate // 10 and len(loop._dry) <= rate // 5  # nothing piles up
    played = np.concatenate(device.played)
    assert len(played) == len(wave)
    delay = loop.silence
    start = rate // 2
    np.testing.assert_allclose(played[start:], wave[start - delay : len(wave) - delay], atol=2e-3)
    assert delay < 0.05 * rate and "load" in loop.status()


@pytest.mark.parametrize(("rate", "ms"), [(44100, 16), (22050, 32), (16000, 10), (11025, 20)])
def test_the_latency_of_blocks_that_fit_no_frames_is_known_at_once(rate, ms):
    """Such blocks wander through all places within a frame, in half a minute at 44.1 kHz."""
    block = round(rate * ms / 1000)
    device = SimpleNamespace(read=lambda n: (np.zeros((n, 1), np.float32), False), write=lambda data: False)
    loop = _live.Live(_live.Converter(Echoless(), rate), device, block)
    first = loop.silence
    for _ in range(30 * rate // block):
        loop.step()
    assert loop.silence == first == loop.converter.latency


@pytest.mark.parametrize("rate", [16000, 48000])
def test_live_goes_on_after_garbage(rate):
    wave = tone(0.5, rate)
    wave[rate // 10 : rate // 10 + 4] = [np.inf, -np.inf, np.nan, 1e38]
    device = Device(wave)
    loop = _live.Live(_live.Converter(_live.open_stream("deepvqe-s"), rate), device, rate // 100)
    for _ in range(50):
        loop.step()
        assert "load" in loop.status()
    assert np.isfinite(np.concatenate(device.played)).all()


def test_live_counts_missed_blocks():
    seconds = iter(np.arange(0, 1000, 0.005))  # each look at the clock finds it 5 ms later
    device = Device(tone(1.0, 16000), overflow_at=(7,))
    loop = _live.Live(_live.Converter(Echoless(), 16000), device, 160, clock=lambda: next(seconds))
    for _ in range(50):
        loop.step()
    assert loop.missed == 1 and loop.load == pytest.approx(0.5, abs=0.01)
    loop.clock = iter(np.arange(0, 1000, 0.02)).__next__
    loop.step()
    assert loop.missed == 2 and loop.peak_load == pytest.approx(2.0)


def test_memory_does_not_grow(monkeypatch):
    import tracemalloc

    converter, block = _live.Converter(Echoless(), 48000), np.zeros((480, 1), np.float32)
    loop = _live.Live(converter, SimpleNamespace(read=lambda n: (block, False), write=lambda d: False), 480)
    tracemalloc.start()
    held = []
    for count in (200, 3000):  # blocks and frames stand to each other as before after eight
        for _ in range(count):
            loop.step()
        gc.collect()  # numpy's windows are cycles
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 20_000


def test_a_device_that_does_not_start(monkeypatch, capsys):
    device = Device(tone(1.0, 16000))
    device.latency = (0.01, 0.02)

    def start(self):
        raise OSError("busy")

    monkeypatch.setattr(Device, "__enter__", start, raising=False)
    monkeypatch.setattr(Device, "__exit__", lambda *_: None, raising=False)
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(Stream=lambda **k: device, PortAudioError=OSError))
    monkeypatch.setattr(_live, "open_stream", lambda *a: Echoless())
    assert main(["stream", "--live"]) == 2
    assert "devices stopped: busy" in capsys.readouterr().err


def test_errors(monkeypatch, capsys):
    for rate in (0, 767999):
        with pytest.raises(ValueError, match=r"rate must be from 1000|too little in common"):
            _live.Converter(Echoless(), rate)
    with pytest.raises(ValueError, match="--device is for PyTorch"):
        _live.open_stream("some.onnx", device="cuda")
    with pytest.raises(ValueError, match="rate"):
        _live.Converter(Echoless(), 10)
    mono = Echoless()
    mono.farend = False
    with pytest.raises(ValueError, match="--channels 1"):
        _live.Converter(mono, 16000, 2)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["stream", "--list-devices"]) == 2
    assert "deepvqe-hub[live]" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    for option in ("--input-device", "--output-device", "--block"):
        assert main(["stream", option, "1"]) == 2
        assert "add --live" in capsys.readouterr().err


def test_live_command_with_a_fake_module(monkeypatch, capsys):
    wave = tone(1.0, 16000)
    device = Device(wave)
    device.latency = (0.01, 0.02)
    device.__class__.__enter__ = lambda self: self
    device.__class__.__exit__ = lambda self, *a: None
    module = SimpleNamespace(Stream=lambda **k: device, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(_live, "open_stream", lambda *a: Echoless())
    pressed = iter([None] * 20 + ["b"] + [None] * 10 + ["q"])
    monkeypatch.setattr(command, "keys", lambda: contextlib.nullcontext(lambda: next(pressed)))
    assert main(["stream", "--live", "--block", "20"]) == 0
    err = capsys.readouterr().err
    assert "echo stays" in err and "--channels 2" in err
    assert "BYPASS" in err and "31 blocks" in err and len(device.played) == 31
    assert "at most 28 ms of input held" in err and "58 ms in all" in err  # with 30 of the devices


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [(OSError("unplugged"), 2, "stopped: unplugged"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_live_command_reports_however_it_ends(end, code, said, monkeypatch, capsys):
    device = Device(tone(1.0, 16000))
    read, device.latency = device.read, (0.01, 0.02)
    device.__class__.__enter__ = lambda self: self
    device.__class__.__exit__ = lambda self, *a: None

    def read_until(count):
        if len(device.played) == 7:
            raise end
        return read(count)

    device.read = read_until
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(Stream=lambda **k: device, PortAudioError=OSError))
    monkeypatch.setattr(_live, "open_stream", lambda *a: Echoless())
    assert main(["stream", "--live"]) == code
    err = capsys.readouterr().err
    assert "7 blocks" in err and err.splitlines()[-1].startswith("deepvqe: ") and said in err.splitlines()[-1]


def test_keys_typed_at_once_are_read_one_by_one(monkeypatch):
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "wb", 0) as keyboard, os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with command.keys() as pressed:
            assert pressed() is None
            keyboard.write(b"bq")
            typed, until = [], time.monotonic() + 60
            while len(typed) < 2 and time.monotonic() < until:
                typed += filter(None, [pressed()])
            assert typed == ["b", "q"] and pressed() is None


def test_program_in_a_pipe(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert onnx
    from deepvqe_hub import EnhancementModel
    from deepvqe_hub.onnx import export

    config = {"channels": [4, 4], "decoder_channels": [4], "encoder_residual": [False] * 2}
    config |= {"decoder_residual": [False] * 2, "hidden": 8}
    path = export(EnhancementModel("DeepVQE", options=config).eval(), tmp_path / "m.onnx", waveform=True)
    wave = soxr.resample(tone(0.7, 16000), 16000, 44100)
    several = export(
        EnhancementModel("DeepVQE", options=config).eval(), tmp_path / "w.onnx", waveform=True, batch_size=2
    )
    with pytest.raises(ValueError, match=r"w.onnx was exported for 2 streams; export it with --batch-size 1"):
        _live.open_stream(str(several))
    code = "import sys; from deepvqe_hub.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "stream", "--model", str(path), "--rate", "44100", "--format", "f32le"],
        input=wave.tobytes(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
        check=True,
    )
    assert len(done.stdout) == wave.nbytes and b"latency 32 ms" in done.stderr
    assert b"echo stays" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, ("pulseaudio", "paplay", "parec"))), reason="PulseAudio is not installed")
def test_through_sound_devices(tmp_path):
    """A real PortAudio stream, from the monitor of one silent sink of PulseAudio to another one."""
    pty = pytest.importorskip("pty")
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))  # OSError: PortAudio itself is missing
    import deepvqe_hub

    source = Path(__file__).resolve().parents[1] / "examples" / "noisy.wav"
    (tmp_path / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    (tmp_path / "run").mkdir(mode=0o700)
    env = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    env |= {"PULSE_SOURCE": "mic.monitor", "PULSE_SINK": "loudspeaker"}
    sinks = [f"module-null-sink sink_name={name} rate=16000 channels=1" for name in ("mic", "loudspeaker")]
    modules = [f"--load={module}" for module in ("module-native-protocol-unix", *sinks)]
    controller, terminal = pty.openpty()
    with contextlib.ExitStack() as stack:
        for end in (controller, terminal):
            stack.callback(os.close, end)

        def start(*command, **options):
            process = subprocess.Popen(command, env=env, **options)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        start("pulseaudio", "-n", "--exit-idle-time=-1", *modules)
        time.sleep(2)
        code = "import sys; from deepvqe_hub.cli import main; sys.exit(main(['stream']))"
        with open(tmp_path / "said", "wb") as said:
            live = start(sys.executable, "-c", code, stdin=terminal, stderr=said)
        while b"q: quit" not in (tmp_path / "said").read_bytes():
            assert live.poll() is None
            time.sleep(0.1)
        record = "parec --device=loudspeaker.monitor --rate=16000 --channels=1 --format=s16le"
        with open(tmp_path / "played", "wb") as played:
            recorder = start(*record.split(), stdout=played)
        time.sleep(1)
        subprocess.run(["paplay", "--device=mic", source], env=env, check=True, timeout=60)
        time.sleep(2)
        recorder.terminate()
        os.write(controller, b"q")
        assert live.wait(10) == 0
    report = (tmp_path / "said").read_text()
    assert re.search(r"\d+ blocks, \d+ missed, \d+ ms in all", report)
    played = np.fromfile(tmp_path / "played", "<i2").astype(np.float32) / 32768
    with torch.inference_mode():
        wanted = deepvqe_hub.load("deepvqe-s")(torch.from_numpy(soundfile.read(source, dtype="float32")[0])).numpy()
    wanted = wanted[16000:-16000]  # what stands before a signal is not silence here, and frames lie elsewhere
    spectra = np.fft.rfft([np.pad(w, (0, 2**20 - len(w))) for w in (played, wanted)])
    lag = np.fft.irfft(spectra[0] * spectra[1].conj()).argmax()
    heard = played[lag : lag + len(wanted)]
    assert 10 * np.log10(np.square(heard).sum() / np.square(heard - wanted).sum()) > 15
