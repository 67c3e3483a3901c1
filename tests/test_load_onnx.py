"""`load(..., backend="onnx")`: the same call and the same numbers as with PyTorch."""

import copy
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

import deepvqe_hub
from deepvqe_hub.cli import main
from deepvqe_hub.onnx.model import SECONDS_AT_ONCE

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TINY = {
    "network": "DeepVQE",
    "options": {
        "channels": [4, 6, 8, 4],
        "decoder_channels": [6, 4, 4],
        "encoder_residual": [False] * 4,
        "decoder_residual": [False, True, True, False],
        "hidden": 12,
    },
}


ECHO = {**TINY, "options": {**TINY["options"], "farend_channels": [2, 3], "align_hidden": 2, "dmax": 8}}


def test_onnx_backend(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    model.save_pretrained(tmp_path / "tiny")
    graph = deepvqe_hub.load(tmp_path / "tiny", backend="onnx")
    noisy = torch.randn(2, 5000) * 0.1
    with torch.no_grad():
        assert torch.allclose(graph(noisy), model(noisy), atol=1e-5)
    stream = graph.stream()
    assert stream(noisy[0].numpy()).shape[0] + stream.flush().shape[0] == 5000
    with pytest.raises(ValueError, match="backend"):
        deepvqe_hub.load(tmp_path / "tiny", backend="tensorflow")


def test_graph_outlives_the_model_it_came_from(tmp_path):
    deepvqe_hub.EnhancementModel.from_config(TINY).save_pretrained(tmp_path / "tiny")
    noisy = np.random.default_rng(0).standard_normal(5000).astype("f4") * 0.1
    graph = deepvqe_hub.load(tmp_path / "tiny", backend="onnx")
    wanted, saved = graph(noisy), pickle.dumps(graph)
    del graph
    gc.collect()
    assert np.array_equal(pickle.loads(saved)(noisy), wanted)
    assert len(pickle.loads(saved).stream()(noisy))


def test_threads_share_a_graph(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    signals = [np.random.default_rng(n).standard_normal(20000 + 7000 * n).astype("f4") * 0.1 for n in range(4)]
    wanted = [graph(signal) for signal in signals]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(graph, signals * 4), wanted * 4))


def test_calls_of_two_threads_run_at_once(tmp_path, monkeypatch):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    noisy, both, compute = np.zeros(1000, "f4"), threading.Barrier(2), deepvqe_hub.onnx.OnnxStream._spectra

    def meet(*args):
        both.wait(timeout=20)
        return compute(*args)

    monkeypatch.setattr(deepvqe_hub.onnx.OnnxStream, "_spectra", meet)
    with ThreadPoolExecutor(2) as pool:
        assert [len(out) for out in pool.map(graph, [noisy, noisy])] == [1000, 1000]


@pytest.mark.parametrize("waveform", [False, True])
def test_streams_of_a_graph_that_is_open_need_no_file(tmp_path, waveform):
    model = deepvqe_hub.EnhancementModel.from_config(ECHO).eval()
    path = deepvqe_hub.onnx.export(model, tmp_path / "model.onnx", waveform=waveform)
    graph = deepvqe_hub.load(path)
    path.unlink()
    streams, signals = [graph.stream() for _ in range(3)], torch.randn(3, 2, 4000) * 0.1
    parts = [[stream(*chunk.numpy()) for stream, chunk in zip(streams, chunks)] for chunks in signals.split(700, 2)]
    parts.append([stream.flush() for stream in streams])
    with torch.no_grad():
        wanted = model(signals[:, 0], signals[:, 1]).numpy()
    for joined, signal in zip(map(np.concatenate, zip(*parts)), wanted, strict=True):
        np.testing.assert_allclose(joined, signal, atol=1e-5)


def test_a_long_signal_goes_in_blocks(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(ECHO).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    noisy, farend = torch.randn(2, SECONDS_AT_ONCE * 16000 + 3001) * 0.1
    with torch.no_grad():
        torch.testing.assert_close(graph(noisy, farend), model(noisy, farend), atol=1e-5, rtol=0)


def test_tensors_of_any_precision(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(ECHO).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    noisy, farend = torch.randn(2, 4000).mul(0.1).bfloat16()
    enhanced = graph(noisy, farend.float().numpy())
    assert enhanced.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.allclose(enhanced.float(), model(noisy.float(), farend.float()), atol=1e-2)
    with pytest.raises(ValueError, match=r"beyond 1e\+30"):
        graph(np.full(4000, 1e300))


def test_lengths_of_a_padded_batch(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(ECHO).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    (noisy, farend), lengths = torch.randn(2, 2, 5000) * 0.1, torch.tensor([1.0, 0.5])
    with torch.no_grad():
        wanted = model(noisy, farend, lengths)
    assert not wanted[1, 2500:].any() and torch.allclose(graph(noisy, farend, lengths), wanted, atol=1e-5)
    for wrong in ([1.0], [0.0, 1.0], [1.0, 1.1]):
        with pytest.raises(ValueError, match="lengths"):
            graph(noisy, lengths=wrong)


def test_framing_without_padding(tmp_path):
    config = {**TINY, "stft": {"win_length": 512, "hop_length": 256, "window": "sine", "padding": "none"}}
    model = deepvqe_hub.EnhancementModel.from_config(config).eval()
    graph = deepvqe_hub.onnx.OnnxModel(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    noisy = torch.randn(3001) * 0.1
    with torch.no_grad():
        assert torch.allclose(graph(noisy), model(noisy), atol=1e-5)


def test_files_and_arrays_of_several_channels(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    path = deepvqe_hub.onnx.export(model, tmp_path / "model.onnx")
    graph, audio = deepvqe_hub.load(path), np.random.default_rng(0).standard_normal((30000, 3)).astype("f4") * 0.1
    wanted = deepvqe_hub.enhance(model, audio, 44100)
    np.testing.assert_allclose(deepvqe_hub.enhance(graph, audio, 44100), wanted, atol=1e-5)
    np.testing.assert_allclose(
        deepvqe_hub.enhance(pickle.loads(pickle.dumps(graph)), audio[:, 0], 44100), wanted[:, 0], atol=1e-5
    )


def test_command_line_with_a_graph_in_two_processes(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    path = deepvqe_hub.onnx.export(model, tmp_path / "model.onnx")
    (tmp_path / "noisy").mkdir()
    audio = np.random.default_rng(0).standard_normal((2, 8000)).astype("f4") * 0.1
    for index, wave in enumerate(audio):
        soundfile.write(tmp_path / "noisy" / f"{index}.wav", wave, 16000, subtype="FLOAT")
    command = ["enhance", str(tmp_path / "noisy"), "-o", str(tmp_path / "clean"), "--model", str(path), "--jobs", "2"]
    assert main([*command, "--quiet"]) == 0
    for index, wave in enumerate(audio):
        enhanced, _ = soundfile.read(tmp_path / "clean" / f"{index}.wav", dtype="float32")
        np.testing.assert_allclose(enhanced, deepvqe_hub.enhance(model, wave, 16000), atol=1e-5)


def test_streams_side_by_side(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    noisy = torch.randn(3, 4000) * 0.1
    stream = graph.stream(3)
    parts = []
    for chunk in noisy.split(700, 1):
        broken = chunk.numpy().copy()
        broken[2, 5] = np.nan
        with pytest.raises(ValueError, match="NaN"):  # and no stream takes its part
            stream(broken)
        parts.append(stream(chunk.numpy()))
    joined = np.concatenate([*parts, stream.flush()], 1)
    with torch.no_grad():
        np.testing.assert_allclose(joined, model(noisy).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match=r"take .3, time"):
        stream(np.zeros((2, 256), "f4"))
    with pytest.raises(ValueError, match="differ in shape"):
        stream(np.zeros((3, 256), "f4"), np.zeros((2, 256), "f4"))
    pair = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "pair.onnx", batch_size=2))
    with pytest.raises(ValueError, match="multiple"):
        pair.stream(3)


@pytest.mark.parametrize("shape", [(16000, 2), (1, 16000, 2), (16000, 1)])
def test_time_in_the_wrong_place_is_named(tmp_path, shape):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    for noisy in (np.zeros(shape, "f4"), torch.zeros(shape)):
        with pytest.raises(ValueError, match=r"noisy has shape .*16000, .*transpose"):
            graph(noisy)
    assert graph(np.zeros((3, 2), "f4")).shape == (3, 2)


@pytest.mark.parametrize("waveform", [False, True])
def test_opened_again_from_another_folder(tmp_path, monkeypatch, waveform):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    monkeypatch.chdir(tmp_path)
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, "model.onnx", waveform=waveform))
    noisy = np.random.default_rng(0).standard_normal(9000).astype("f4") * 0.1
    wanted, stream = graph(noisy), deepvqe_hub.onnx.OnnxStream("model.onnx")
    begun = stream(noisy[:4000])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert graph.stream()(noisy).shape == (8704,)
    for again in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert np.array_equal(again(noisy), wanted)
    for going_on in (copy.deepcopy(stream), pickle.loads(pickle.dumps(stream)), stream):  # in the middle of the signal
        joined = np.concatenate([begun, going_on(noisy[4000:]), going_on.flush()])
        assert np.array_equal(joined, wanted)


def test_a_graph_runs_on_the_processor(tmp_path):
    with pytest.raises(ValueError, match="CPU"):
        deepvqe_hub.load(tmp_path / "model.onnx", device="cuda")
    with pytest.raises(ValueError, match="quantize"):  # too late for an exported graph
        deepvqe_hub.load(tmp_path / "model.onnx", quantize=True)


def test_several_channels_with_a_far_end(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(ECHO).eval()
    graph = deepvqe_hub.load(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    mic, far = np.random.default_rng(0).standard_normal((2, 30000, 2)).astype("f4") * 0.1
    wanted = deepvqe_hub.enhance(model, mic, 16000, far)
    np.testing.assert_allclose(deepvqe_hub.enhance(graph, mic, 16000, far), wanted, atol=1e-5)
