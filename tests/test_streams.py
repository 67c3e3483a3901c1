"""What befalls live streams: failures half-way through a call, and other sample rates than the model's."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from tiny import FAREND, OPTIONS

from deepvqe_hub import EnhancementModel, Stream, enhance, load
from deepvqe_hub.resampling import Resampler

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def build(lively):
    """A small model with lively weights; `farend=True` for one that cancels echo."""

    def make(farend=False, **config):
        return lively(EnhancementModel(options=OPTIONS | (FAREND if farend else {}), **config))

    return make


@pytest.fixture
def streams(build, tmp_path):
    """Makes a model, a stream of it, what computes in it (an object and a method's name), and how it takes arrays."""

    def make(kind):
        model = build(farend=True)
        if kind.startswith("torch"):
            stream = model.stream(int(kind[-1]))
            return model, stream, (stream.network, "forward"), torch.from_numpy
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        from deepvqe_hub.onnx import OnnxModel, export

        stream = OnnxModel(export(model, tmp_path / "m.onnx")).stream(int(kind[-1]))
        last = stream if kind == "onnx 1" else stream._streams[-1]  # the others are ahead when it fails
        return model, stream, (last, "_spectra"), lambda wave: wave

    return make


def noise(*shape):
    return (torch.rand(shape) - 0.5).numpy()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("kind", ["torch 1", "torch 2", "onnx 1", "onnx 2"])
def test_after_a_failure_half_way_a_stream_wants_a_reset(streams, kind, error, monkeypatch):
    model, stream, (owner, name), given = streams(kind)
    rows = stream.batch_size
    wave, far = noise(rows, 5000), noise(rows, 5000)

    def part(start, stop):
        return stream(given(wave[:, start:stop]), given(far[:, start:stop]))

    def fail(*_, **__):
        raise error

    with torch.inference_mode():
        whole = model(torch.from_numpy(wave), torch.from_numpy(far)).numpy()
    part(0, 3000)
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(owner, name, fail)
        part(3000, 4000)
    for call in (lambda: part(3000, 4000), lambda: part(4000, 5000), stream.flush, stream.flush):
        with pytest.raises(RuntimeError, match=r"failed half-way.*reset\(\)"):
            call()
    stream.reset()
    parts = [part(0, 700), part(700, 5000), stream.flush()]
    joined = np.concatenate([np.asarray(out).reshape(rows, -1) for out in parts], 1)
    np.testing.assert_allclose(joined, whole, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch 1", "torch 2", "onnx 1", "onnx 2"])
def test_a_call_in_the_middle_of_another_is_refused_and_does_no_harm(streams, kind, monkeypatch):
    _, stream, (owner, name), given = streams(kind)
    wave = given(noise(stream.batch_size, 2000))
    alone = [stream(wave), stream.flush()]
    compute, refused = getattr(owner, name), []

    def meanwhile(*args, **options):
        for call in (lambda: stream(wave[0] if len(wave) == 1 else wave), stream.flush):
            with pytest.raises(RuntimeError, match=r"in the middle of a call.*a stream of its own"):
                call()
            refused.append(call)
        return compute(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, meanwhile)
        parts = [stream(wave), stream.flush()]
    assert refused
    for part, expected in zip(parts, alone, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_a_flush_that_fails_ends_nothing(build):
    stream = build().stream()
    stream(torch.zeros(1000))
    hook = stream.network.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stream.flush()
    hook.remove()
    with pytest.raises(RuntimeError, match="half-way"):
        stream.flush()
    stream.reset()
    assert len(stream(torch.zeros(1000))) + len(stream.flush()) == 1000


def test_a_chunk_on_another_device_is_refused(build):
    model, wave = build(farend=True), torch.zeros(300)
    stream = model.stream()
    model.to("meta")
    assert len(stream(wave, wave)) + len(stream.flush()) == 300
    with pytest.raises(ValueError, match=r"chunk is on cpu, this stream on meta"):
        model.stream()(wave)
    with pytest.raises(ValueError, match=r"farend is on meta, this stream on cpu"):
        stream(wave, torch.zeros(0, device="meta"))


def in_chunks(stream, *waves, sizes=(997, 1, 0, 4000, 30)):
    """Joined outputs; what is held back never exceeds the latency."""
    parts, start, given, length = [], 0, 0, waves[0].shape[-1]
    while start < length:
        stop = start + sizes[len(parts) % len(sizes)]
        parts.append(stream(*(wave[..., start:stop] for wave in waves)))
        start, given = min(stop, length), given + parts[-1].shape[-1]
        assert 0 <= start - given <= stream.latency * stream.sample_rate
    parts.append(stream.flush())
    return (torch.cat if isinstance(parts[0], torch.Tensor) else np.concatenate)(parts, -1)


@pytest.mark.parametrize("rate", [48000, 44100, 8000])
@pytest.mark.parametrize(
    ("name", "files"), [("deepvqe-s", ["noisy.wav"]), ("deepvqe-aec-s", ["echo_mic.flac", "echo_farend.flac"])]
)
def test_a_stream_at_another_rate_is_what_enhance_gives(name, files, rate, error):
    model = load(name)
    waves = [soundfile.read(EXAMPLES / file, dtype="float32", frames=48000)[0] for file in files]
    waves = [soxr.resample(wave, 16000, rate) for wave in waves]
    stream = model.stream(sample_rate=rate)
    assert (stream.sample_rate, stream.farend) == (rate, model.farend)
    assert model.latency < stream.latency <= model.latency + 0.012
    enhanced = in_chunks(stream, *map(torch.from_numpy, waves))
    # The resampler of files, with its longer filters, keeps a little more just below half the rate.
    assert error(enhanced, enhance(model, waves[0], rate, *waves[1:])) < 0.01


@pytest.mark.parametrize("farend", [False, True])
def test_signals_side_by_side_at_another_rate(build, farend, error):
    model = build(farend=farend)
    waves = [torch.from_numpy(noise(3, 9001)) for _ in range(1 + farend)]
    stream = model.stream(3, sample_rate=44100)
    assert stream.batch_size == 3 and stream.flush().shape == (3, 0)
    together = in_chunks(stream, *waves)
    for row in range(3):
        alone = in_chunks(model.stream(sample_rate=44100), *(wave[row] for wave in waves), sizes=(500,))
        assert error(together[row], alone) < 1e-5
    stream(*(wave[:, :5000] for wave in waves))
    stream.reset()
    assert torch.equal(in_chunks(stream, *waves), together)


def test_a_far_end_may_come_and_go_at_another_rate(build):
    model, (wave, far) = build(farend=True), torch.from_numpy(noise(2, 9000))
    far[4000:] = 0
    one, two = model.stream(sample_rate=48000), model.stream(sample_rate=48000)
    parts = one(wave[:4000], far[:4000]), one(wave[4000:]), one.flush()
    assert torch.equal(
        torch.cat(parts), torch.cat([two(wave[:4000], far[:4000]), two(wave[4000:], far[4000:]), two.flush()])
    )


@pytest.mark.parametrize("length", [0, 1, 2, 100, 479, 480, 481])
@pytest.mark.parametrize("rate", [48000, 44100, 11025, 8000])
def test_short_signals_at_another_rate_keep_their_length(build, rate, length):
    stream = build().stream(sample_rate=rate)
    assert len(stream(torch.zeros(length))) + len(stream.flush()) == length


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_a_stream_at_another_rate_gives_the_type_it_is_given(build, kind):
    stream, wave = build().stream(sample_rate=48000), torch.from_numpy(noise(3000))
    assert stream.flush().dtype == torch.float32
    parts = stream(wave.to(kind)), stream.flush()
    assert {part.dtype for part in parts} == {kind} and len(parts[1])
    parts[0].mul_(0.5)
    arrays = stream(wave.numpy()), stream.flush()
    assert all(isinstance(part, np.ndarray) and part.dtype == np.float32 for part in arrays)
    torch.testing.assert_close(parts[0].mul(2).float(), torch.from_numpy(arrays[0]), atol=0.01, rtol=0)


def test_the_models_own_rate_needs_no_resampling(build):
    assert type(build().stream(2, 16000)) is Stream


def test_what_no_stream_at_another_rate_takes(build):
    model = build(farend=True)
    for rate, words in [
        (0, "from 1000 to 768000 Hz, not 0"),
        (44100.5, "whole number"),
        ("48000", "whole number"),
        (767999, "too little in common"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.stream(sample_rate=rate)
    wave = torch.from_numpy(noise(4000))
    stream, wanted = model.stream(sample_rate=48000), in_chunks(model.stream(sample_rate=48000), wave)
    parts = [stream(wave[:2000])]
    for chunks, words in [
        ((wave[:9].int(),), "chunk has dtype int32"),
        ((wave[None, :9].repeat(2, 1),), r"chunk has shape \(2, 9\)"),
        ((wave[:9] / 0,), "chunk contains NaN, Inf"),
        ((wave[:9], wave[:8]), r"farend chunk \(8,\) and microphone chunk \(9,\) differ in shape"),
        ((wave[:9], wave[:9] / 0), "farend contains NaN, Inf"),
    ]:
        with pytest.raises(ValueError, match=words):
            stream(*chunks)
    torch.testing.assert_close(torch.cat([*parts, stream(wave[2000:]), stream.flush()]), wanted)
    with pytest.raises(ValueError, match="no far-end input"):
        build().stream(sample_rate=48000)(wave, wave)
    with pytest.raises(ValueError, match="beyond 100;"):
        build().half().stream(sample_rate=48000)(1000 * wave)


def test_a_failure_half_way_at_another_rate(build, monkeypatch):
    stream, wave = build().stream(sample_rate=48000), torch.from_numpy(noise(6000))
    wanted = in_chunks(stream, wave)
    stream(wave[:3000])
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Stream, "process", lambda *_: 1 / 0)
        stream(wave[3000:4000])
    for call in (lambda: stream(wave[4000:]), stream.flush):
        with pytest.raises(RuntimeError, match="half-way"):
            call()
    stream.reset()
    assert torch.equal(in_chunks(stream, wave), wanted)


def test_graphs_stream_at_another_rate(build, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from deepvqe_hub.onnx import OnnxModel, export

    model = build(farend=True)
    graph, waves = OnnxModel(export(model, tmp_path / "m.onnx")), [noise(2, 7000) for _ in range(2)]
    assert graph.stream(sample_rate=16000).latency == graph.latency
    for rate in (48000, 11025):
        wanted = in_chunks(model.stream(2, rate), *map(torch.from_numpy, waves))
        np.testing.assert_allclose(in_chunks(graph.stream(2, rate), *waves), wanted, atol=1e-5)
        alone = in_chunks(graph.stream(sample_rate=rate), *(wave[0] for wave in waves))
        np.testing.assert_allclose(alone, wanted[0], atol=1e-5)


def test_loud_chunks_at_another_rate(build):
    stream = build().half().stream(sample_rate=48000)
    with pytest.raises(ValueError, match="beyond 100"):
        stream(torch.full((4800,), 101.0))
    square = 99 * torch.sign(torch.randn(4800))  # from which a resampler overshoots
    with pytest.warns(UserWarning, match="beyond ±8"):
        heard = torch.cat([stream(square), stream.flush()])
    assert heard.isfinite().all() and len(heard) == 4800


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (16000, 48000), (44100, 16000), (8000, 16000)])
def test_a_resampler_keeps_tones_in_their_place_and_makes_no_others(source, target):
    def tone(rate, frequency):  # up to half of the lower rate is 1
        phase = np.pi * frequency * min(source, target) * np.arange(rate // 8) / rate
        return np.sin(phase)[:, None].astype(np.float32)

    def resampled(frequency):
        wave, resample = tone(source, frequency), Resampler(source, target)
        return np.concatenate([resample(wave[:700]), resample(wave[700:], last=True)])

    inside = slice(target // 32, -target // 32)  # the ends are those of a tone that begins and ends
    for frequency, tolerance in ((0.01, 1e-4), (0.5, 1e-4), (0.9, 1e-3)):
        assert np.abs(resampled(frequency) - tone(target, frequency))[inside].max() < tolerance
    if target < source:
        assert np.abs(resampled(1.02)[inside]).max() < 1e-4


def test_a_long_chunk_at_another_rate_takes_little_memory():
    wave = np.random.default_rng(0).standard_normal((48000 * 20, 1)).astype(np.float32)
    tracemalloc.start()
    whole = Resampler(48000, 16000)(wave)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    parts, resample = [], Resampler(48000, 16000)
    for start in range(0, len(wave), 1000):
        parts.append(resample(wave[start : start + 1000]))
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)
    assert peak < 10 * wave.nbytes
