"""EnhancementModel and its stream: any shape, any chunk, and clear errors."""

import json
import math
import re

import numpy as np
import pytest
import torch
from tiny import RESIDUAL_FAREND as FAREND
from tiny import RESIDUAL_OPTIONS as TINY

from deepvqe_hub import EnhancementModel, enhance
from deepvqe_hub.enhancement import BLOCK_SECONDS, GPU_SECONDS, block_seconds
from deepvqe_hub.models import DeepVQE

RATE = 16000


@pytest.fixture(params=[False, True], ids=["noise", "echo"])
def model(request, build):
    return build(farend=request.param)


def noise(*shape):
    return torch.rand(shape) * 2 - 1


def farend(model, wave):
    return torch.rand_like(wave) - 0.5 if model.farend else None


@torch.inference_mode()
@pytest.mark.parametrize(
    "shape", [(1,), (255,), (256,), (257,), (512,), (4000,), (2, 3000), (2, 3, 1000), (1, 1, 1, 700)]
)
def test_any_shape(model, shape, error):
    wave = noise(*shape)
    far = farend(model, wave)
    out = model(wave, far)
    assert out.shape == wave.shape and out.isfinite().all() and out.dtype == wave.dtype
    flat, flat_far = wave.reshape(-1, shape[-1]), None if far is None else far.reshape(-1, shape[-1])
    alone = [model(w, None if flat_far is None else flat_far[i]) for i, w in enumerate(flat)]
    assert error(out.reshape(flat.shape), torch.stack(alone)) < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 1000), (3, 0, 100)])
def test_empty(model, shape):
    assert model(torch.zeros(shape)).shape == shape


@torch.inference_mode()
def test_unusual_levels(model):
    ones = torch.ones(3000)
    assert torch.equal(model(0 * ones), 0 * ones)
    for wave in [ones, ones + 0.1 * noise(3000), noise(3000).sign(), 1e-20 * noise(3000), 1e4 * noise(3000)]:
        assert model(wave).isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("stft", [{}, {"window": "hann", "padding": "reflect"}, {"win_length": 400, "hop_length": 200}])
def test_aligned_with_the_input(build, stft):
    """A network that masks with one leaves every sample in its place, offline and in a stream."""
    model = build(stft=stft)
    final = model.network.deblock1.upsampling_conv
    final.weight.zero_()
    model.network.ccm.start_as_identity(final)
    wave = torch.zeros(3000)
    wave[1234] = 1
    assert torch.allclose(model(wave), wave, atol=1e-5)
    wave = noise(3000)
    assert torch.allclose(model(wave), wave, atol=1e-5)
    stream = model.stream()
    assert torch.allclose(torch.cat([stream(wave), stream.flush()]), wave, atol=1e-5)
    wave, model = noise(3000).double(), model.double()  # the front end is as precise as the weights
    stream = model.stream()
    for enhanced in (model(wave), torch.cat([stream(wave), stream.flush()])):
        assert torch.allclose(enhanced, wave, rtol=0, atol=1e-12)


@torch.inference_mode()
def test_silent_farend_is_none(build):
    model, wave = build(farend=True), noise(5000)
    assert torch.equal(model(wave), model(wave, torch.zeros_like(wave)))
    assert not torch.allclose(model(wave), model(wave, noise(5000)))


@torch.inference_mode()
def test_lengths_do_not_leak(model, error):
    wave = noise(3, 6000)
    far, lengths = farend(model, wave), torch.tensor([1.0, 0.5, 0.333])
    out = model(wave, far, lengths=lengths)
    junk, junk_far = wave.clone(), None if far is None else far.clone()
    for i, end in enumerate([6000, 3000, 1998]):
        assert torch.equal(out[i, end:], torch.zeros(6000 - end))
        alone = model(wave[i, :end], None if far is None else far[i, :end])
        assert error(out[i, :end], alone) < 1e-5
        junk[i, end:] = 100
        if far is not None:
            junk_far[i, end:] = -100
    assert torch.equal(model(junk, junk_far, lengths=lengths), out)


@torch.inference_mode()
def test_lengths_where_ends_are_mirrored(build, error):
    model, (wave, far) = build(farend=True, stft={"window": "hann", "padding": "reflect"}), noise(2, 2, 3000)
    enhanced = model(wave, far, lengths=torch.tensor([1.0, 0.5]))
    for row, end in enumerate([3000, 1500]):
        assert error(enhanced[row, :end], model(wave[row, :end], far[row, :end])) < 1e-5
        assert not enhanced[row, end:].any()


def test_gradient_mode_changes_nothing(model, error):
    wave = noise(2, int(2.5 * BLOCK_SECONDS * RATE))
    far = farend(model, wave)
    with_graph = model(wave, far)
    assert with_graph.requires_grad
    with torch.no_grad():
        assert error(model(wave, far), with_graph) < 1e-5
    with torch.inference_mode():
        assert error(model(wave, far), with_graph) < 1e-5


def test_a_gpu_takes_more_at_once():
    sizes = [block_seconds(torch.empty(batch, 10, device="meta")) for batch in (1, 32, 1000)]
    assert sizes == [GPU_SECONDS, GPU_SECONDS // 32, BLOCK_SECONDS]
    assert block_seconds(torch.empty(1, 10)) == BLOCK_SECONDS


def test_trains(model):
    wave = noise(2, 4000).requires_grad_()
    model.train()(wave, farend(model, wave)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert wave.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 37, 256, 700, "random"])
@pytest.mark.parametrize("stft", [{}, {"window": "hann", "padding": "reflect", "scale": 0.5}])
def test_stream_in_any_chunks(build, size, stft, error):
    model = build(farend=True, stft=stft)
    length = 2000 if size == 1 else 10 * RATE
    wave, far = noise(2, length), noise(2, length)
    cuts = torch.randint(0, 3000, (200,)).cumsum(0) if size == "random" else torch.arange(size, length, size)
    cuts = sorted([*cuts[cuts < length].tolist(), 500, 500, 500])  # with a few empty chunks
    stream, outputs, given, got = model.stream(batch_size=2), [], 0, 0
    for part, far_part in zip(wave.tensor_split(cuts, 1), far.tensor_split(cuts, 1)):
        outputs.append(stream(part, far_part))
        given, got = given + part.shape[1], got + outputs[-1].shape[1]
        assert given - got <= stream.latency * RATE
    outputs.append(stream.flush())
    with torch.no_grad():
        whole = model(wave, far)
    assert error(torch.cat(outputs, 1), whole) < 1e-5


def test_stream_of_one_dimension(model, error):
    wave = noise(3000)
    far, stream = farend(model, wave), model.stream()
    joined = torch.cat([stream(wave, far), stream.flush()])
    assert error(joined, model(wave, far).detach()) < 1e-5


def test_stream_starts_anew(build):
    model, wave, outputs = build(), noise(3000), []
    stream = model.stream()
    for _ in range(2):  # flush ends a signal
        outputs.append(torch.cat([stream(wave), stream.flush()]))
    stream(noise(777))
    stream.reset()
    outputs.append(torch.cat([stream(wave), stream.flush()]))
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_stream_without_input(model):
    stream = model.stream()
    assert stream.flush().shape == (0,)
    assert stream(torch.zeros(0)).shape == (0,)
    assert stream.flush().shape == (0,)
    assert model.stream(3).flush().shape == (3, 0)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_the_rest_of_a_stream_is_of_the_type_of_its_chunks(model, kind):
    stream = model.stream()
    parts = [stream(noise(777).to(kind)), stream.flush()]
    assert len(parts[1]) and {part.dtype for part in parts} == {kind}


def test_stream_keeps_its_weights(build):
    """A stream runs with the weights of the moment it was made; the model may train on."""
    model, wave = build(), noise(3000)
    one, two = model.stream(), model.stream()
    before = torch.cat([one(wave), one.flush()])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    assert torch.equal(torch.cat([two(wave), two.flush()]), before)


@pytest.mark.parametrize("name", ["noisy", "farend"])
@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.full((1000,), torch.nan), "NaN, Inf"),
        (torch.full((1000,), torch.inf), "NaN, Inf"),
        (torch.zeros(1000, dtype=torch.int16), "int16"),
        (torch.tensor(0.5), "single number"),
        (np.zeros(1000, dtype=np.float32), "ndarray"),
    ],
)
def test_unfit_signals(build, name, wave, message):
    signals = {"noisy": torch.zeros(1000), "farend": torch.zeros(1000)} | {name: wave}
    with pytest.raises(ValueError, match=f"{name} .*{message}"):
        build(farend=True)(**signals)
    stream, chunks = build(farend=True).stream(), list(signals.values())
    called = "chunk" if name == "noisy" else "farend"
    message += rf".*torch\.from_numpy\({called}\)" if message == "ndarray" else ""
    with pytest.raises(ValueError, match=f"{called} .*{message}"):
        stream(*chunks)


def test_unfit_shapes(build):
    model, plain = build(farend=True), build()
    wave = torch.zeros(2, 1000)
    for call, message in [
        (lambda: model(wave, wave[:, :999]), "farend (2, 999) and noisy (2, 1000)"),
        (lambda: plain(wave, wave), "no far-end input"),
        (lambda: plain.stream(2)(wave, wave), "no far-end input"),
        (lambda: model(wave, lengths=torch.tensor([1.0])), "lengths (1,)"),
        (lambda: model(wave[0], lengths=torch.tensor([1.0])), "lengths (1,)"),
        (lambda: model(wave, lengths=torch.tensor([0.5, 1.5])), "lengths are relative"),
        (lambda: model(wave, lengths=torch.tensor([0.0, 1.0])), "lengths are relative"),
        (lambda: model.stream()(wave), "chunk has shape (2, 1000)"),
        (lambda: model.stream(2)(wave[:, None]), "chunk has shape (2, 1, 1000)"),
        (lambda: model.stream(2)(wave, wave[:, :3]), "farend chunk (2, 3)"),
        (lambda: plain.delay(wave, wave), "no far end"),
        (lambda: model.delay(wave, wave[:1]), "farend (1, 1000)"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


@torch.inference_mode()
def test_a_refused_chunk_leaves_the_stream_as_it_was(build):
    wave, bad = noise(2000), torch.tensor([0.0, torch.nan])
    for model, far in ((build(), wave[:300]), (build(farend=True), wave[:299])):
        stream, parts = model.stream(), []
        for chunk in wave.split(300):
            parts.append(stream(chunk))
            for arguments in ((chunk, far), (bad,)):
                with pytest.raises(ValueError, match=r"far|NaN"):
                    stream(*arguments)
        torch.testing.assert_close(torch.cat([*parts, stream.flush()]), model(wave), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_delay_of_waveforms(build):
    model, waves = build(farend=True), (noise(2, 3, 4000), noise(2, 3, 4000))
    delay = model.delay(*waves)
    assert delay.shape[:2] == (2, 3)
    assert delay.min() >= 0 and delay.max() <= 4 * 256 / RATE
    each = model.delay_distribution(*waves).argmax(-1) * 256 / RATE
    torch.testing.assert_close(model.delay(*waves, memory=0), each)
    for memory in (-1, float("nan")):
        with pytest.raises(ValueError, match=f"memory is {memory}"):
            model.delay(*waves, memory=memory)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("stft", "more"),
    [({}, 1), ({"win_length": 512, "hop_length": 128, "padding": "reflect"}, 3), ({"padding": "none"}, 0)],
)
def test_delay_in_blocks_equals_the_whole(build, stft, more, monkeypatch, error):
    model, waves = build(farend=True, stft=stft), noise(2, 2, 80_001)
    whole = model.network.delay(*(model.stft.analyse(wave) for wave in waves))
    frames, network_delay = [], DeepVQE.delay

    def spied(network, spec, *arguments):
        frames.append(spec.shape[2])
        return network_delay(network, spec, *arguments)

    monkeypatch.setattr(DeepVQE, "delay", spied)
    hop = model.stft.hop_length
    distribution = model.delay_distribution(*waves)
    assert distribution.shape == (2, -(-80_001 // hop) + more, 5) and error(distribution, whole) < 1e-5
    assert len(frames) == 3 and max(frames) <= BLOCK_SECONDS * RATE // hop + more
    waves = noise(2, 1, 2 * BLOCK_SECONDS * RATE)  # which ends where a block does
    assert model.delay_distribution(*waves).shape[1] == waves.shape[2] // hop + more


def test_delay_leaves_a_model_in_training_as_it_is(build):
    model, waves = build(farend=True), noise(2, 4000)
    expected = model.delay_distribution(*waves)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    distribution = model.train().delay_distribution(*waves)
    assert model.training and model.network.training and not distribution.requires_grad
    assert torch.equal(distribution, expected)
    model.delay(*waves)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_that_find_no_delay(build):
    unaligned = EnhancementModel(options={**TINY, **FAREND, "align": False})
    found = [model.finds_delay for model in (build(farend=True), build(), unaligned)]
    assert found == [True, False, False]
    for call in (unaligned.delay, unaligned.delay_distribution):
        with pytest.raises(ValueError, match="without alignment"):
            call(*noise(2, 4000))


@torch.inference_mode()
def test_delay_outlasts_frames_without_echo_and_follows_a_jump(build, monkeypatch):
    model = build(farend=True)
    distribution = torch.full((200, 5), 0.1)
    distribution[:50, 3] = distribution[120:, 1] = 0.6
    distribution[50:120, 0] = 0.11  # nothing heard: hardly more probable than the others
    monkeypatch.setattr(model, "delay_distribution", lambda *_: distribution)
    frames = (model.delay(None, None) * RATE / 256).round()
    assert (frames[:120] == 3).all()
    assert (frames[135:] == 1).all()
    assert (model.delay(None, None, memory=0)[50:120] == 0).all()


def test_config_builds_the_same_model(build):
    model = build(farend=True, stft={"window": "hann"})
    again = EnhancementModel.from_config(json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    wave = noise(3000)
    with torch.no_grad():
        assert torch.equal(again.eval()(wave), model(wave))
    assert again.config == model.config


@pytest.mark.parametrize("rate", [0, -16000, 16000.0, "16000"])
def test_sample_rates_that_are_none(rate):
    with pytest.raises(ValueError, match="sample_rate must be"):
        EnhancementModel(sample_rate=rate)


def test_a_config_is_the_models_own():
    EnhancementModel.from_config("deepvqe-s").config["options"]["channels"][0] = 99
    assert EnhancementModel.from_config("deepvqe-s").config["options"]["channels"][0] != 99
    options, stft = {**TINY, "channels": [*TINY["channels"]]}, {"window": "hann"}
    model = EnhancementModel(options=options, stft=stft)
    options["channels"][0], stft["window"] = 99, "sine"
    assert model.config["options"]["channels"][0] != 99 and model.config["stft"]["window"] == "hann"


def test_the_latency_of_a_network_that_needs_the_whole_signal_is_infinite():
    options = {"channels": 4, "blocks": 1, "hidden": 4, "heads": 2}
    assert EnhancementModel("TFGridNet", options).latency == math.inf


def test_config_from_a_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"options": TINY, "sample_rate": 8000}))
    model = EnhancementModel.from_config(tmp_path / "config.json")
    assert (model.sample_rate, model.latency, model.farend) == (8000, 512 / 8000, False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("deepvqe-xxl", "neither a file nor a preset"),
        ("", "'' is neither a file nor a preset"),
        ({"network": "os"}, "unknown network"),
        ({"network": "__import__"}, "unknown network"),
        ({"colour": "red"}, "does not describe"),
        ({"options": {"colour": "red"}}, "does not describe"),
        ({"options": {**TINY, "hidden": 1 << 20}}, "parameters; the limit"),
        ({"stft": {"win_length": 1 << 30, "hop_length": 1 << 29}}, "win_length"),
        ({"format_version": 99}, "upgrade"),
        ({"format_version": 0}, "does not exist"),
        ({"format_version": True}, "does not exist"),
    ],
)
def test_absurd_configs(config, message):
    with pytest.raises(ValueError, match=message):
        EnhancementModel.from_config(config)


def test_what_lies_beyond_the_length_is_ignored(build):
    model, (noisy, farend) = build(farend=True), noise(2, 2, 3000)
    wanted = model(noisy, farend, torch.tensor([1.0, 0.5]))
    noisy[1, 1500:], farend[1, 1500:] = torch.nan, torch.inf
    assert torch.equal(model(noisy, farend, torch.tensor([1.0, 0.5])), wanted)
    with pytest.raises(ValueError, match="differ in shape"):
        model(noisy, farend[:1], torch.tensor([1.0, 0.5]))


@pytest.mark.parametrize("shape", [(4000, 2), (1, 4000, 2), (4000, 1)])
def test_time_in_the_wrong_place_is_named(build, shape):
    model = build()
    with pytest.raises(ValueError, match=r"noisy has shape .*4000, .*transpose"):
        model(noise(*shape))
    with pytest.raises(ValueError, match=r"audio has shape .*4000, .*transpose"):
        enhance(model, noise(*shape), RATE)
    with torch.no_grad():
        assert model(noise(100, 65)).shape == (100, 65) and model.stream(100)(noise(100, 2)).shape == (100, 0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"options": {**TINY, "bins": 100}}, "100 bins in the options, but 257"),
        ({"options": {**TINY, "channels": [4, -6, 8]}}, "channels must be 1 or more"),
        ({"options": {**TINY, **FAREND, "dmax": 0}}, "dmax must be 1 or more"),
        ({"options": {**TINY, **FAREND, "farend_channels": [0, 6]}}, "farend_channels must be 1 or more"),
        ({"network": "DPCRN", "options": {"strides": [0, 2, 1, 1, 1]}}, "strides must be 1 or more"),
        ({"network": "TFGridNet", "options": {"heads": 0}}, "heads must be 1 or more"),
        ({"stft": {"scale": float("inf")}}, "positive and finite"),
    ],
)
def test_configs_that_no_signal_would_pass_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        EnhancementModel.from_config(config)


def test_odd_calls_are_named(build):
    model, wave = build(farend=True), noise(2, 3000)
    with pytest.raises(ValueError, match="farend is a ndarray"):
        model(wave, wave.numpy(), torch.tensor([1.0, 0.5]))
    for size in (0, -1, 1.5):
        with pytest.raises(ValueError, match="batch_size must be a whole number, 1 or more"):
            model.stream(size)
    assert model.stream(np.int64(2))(wave).shape == (2, 2560)
    with pytest.raises(ValueError, match="noisy is empty"):
        model.delay(wave[:0], wave[:0])
    with pytest.raises(ValueError, match="on device nowhere"):
        EnhancementModel.from_pretrained("deepvqe-s", map_location="nowhere")
