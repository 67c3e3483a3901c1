"""Exported graphs against the PyTorch model."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_models import Adapter

from deepvqe_hub import EnhancementModel, enhance

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from deepvqe_hub.onnx import OnnxModel, OnnxStream, export  # noqa: E402
from deepvqe_hub.pipelines import Enhance  # noqa: E402
from deepvqe_hub.protocols import LiveStream, Model, NumpyStream  # noqa: E402
from deepvqe_hub.streaming import ArrayStream  # noqa: E402

STFT = {"win_length": 64, "hop_length": 32}
SMALL = {
    "channels": [6, 8, 5],
    "decoder_channels": [8, 6],
    "encoder_residual": [True, False, True],
    "decoder_residual": [False, True, True],
    "hidden": 12,
}
VARIANTS = {
    "interleave": {},
    "concat": {"upsampling": "concat", "mask_activation": True},
    "echo": {"farend_channels": [4, 6], "align_hidden": 3, "dmax": 9},
    "brief echo": {"farend_channels": [4, 6], "align_hidden": 3, "dmax": 2},
    "unaligned": {"farend_channels": [4, 6], "align": False},
    "traced": {"upsampling": "transposed", "mask": "complex"},
    "traced echo": {"mask": "complex", "farend_channels": [4, 6], "align_hidden": 3, "dmax": 9},
}


def small_model(options=None, stft=None, **config):
    """A small network with random weights, in which every part moves the output."""
    torch.manual_seed(1)
    model = EnhancementModel("DeepVQE", {**SMALL, **(options or {})}, {**STFT, **(stft or {})}, **config).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            scale = 2.0 if "align" in name else 0.2  # so that delays differ much in weight
            value.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else torch.randn_like(value) * scale)
    return model


def signals(model, frames, rows=1):
    samples = frames * model.stft.hop_length + 5
    waves = np.random.default_rng(2).standard_normal((2, rows, samples)).astype(np.float32) * np.float32(0.1)
    return list(waves) if model.farend else [waves[0]]


def offline(model, waves):
    with torch.inference_mode():
        return model(*map(torch.from_numpy, waves)).numpy()


def in_chunks(stream, waves, sizes):
    out, start = [], 0
    while start < waves[0].shape[1]:
        size = sizes[len(out) % len(sizes)]
        out.append(stream(*(w[:, start : start + size] for w in waves)))
        start += size
    return np.concatenate([*out, stream.flush().reshape(stream.batch_size, -1)], 1)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_offline_over_hundreds_of_frames(tmp_path, variant, frames):
    model = small_model(VARIANTS[variant])
    stream = OnnxStream(export(model, tmp_path / "m.onnx", frames=frames))
    waves = signals(model, 250)
    got = in_chunks(stream, waves, [1, 77, 32, 300, 5])
    np.testing.assert_allclose(got, offline(model, waves), atol=1e-5)
    assert stream.latency == pytest.approx((64 + 32 * (frames - 1)) / 16000)


def test_the_rest_has_the_shape_of_the_chunks(tmp_path):
    model = small_model()
    graph = OnnxStream(export(model, tmp_path / "m.onnx"))
    wave = signals(model, 9)[0]
    for chunks in (wave, wave[0]):
        for stream, signal, join in (
            (graph, chunks, np.concatenate),
            (model.stream(), torch.from_numpy(chunks), torch.cat),
        ):
            assert join([stream(signal), stream.flush()], -1).shape == chunks.shape
            assert stream.flush().shape == (*chunks.shape[:-1], 0)


@pytest.mark.parametrize("variant", ["concat", "echo", "traced", "traced echo"])
@pytest.mark.parametrize(
    "stft", [{}, {"padding": "reflect", "window": "hann"}, {"win_length": 96, "window": "sine", "scale": 3}]
)
def test_front_end_inside(tmp_path, variant, stft):
    model = small_model(VARIANTS[variant], stft)
    waves = signals(model, 40)
    wanted = offline(model, waves)
    for waveform in (True, False):
        stream = OnnxStream(export(model, tmp_path / f"{waveform}.onnx", waveform=waveform, frames=2))
        for _ in range(2):  # flush begins anew
            np.testing.assert_allclose(in_chunks(stream, waves, [50, 3]), wanted, atol=1e-5)


@pytest.mark.parametrize("variant", ["concat", "echo"])
def test_batches_and_look_alike(tmp_path, variant):
    model = small_model(VARIANTS[variant])
    waves = signals(model, 30, rows=5)
    path = export(model, tmp_path / "m.onnx", batch_size=3)
    alike, wanted = OnnxModel(path), offline(model, waves)
    np.testing.assert_allclose(alike(*waves), wanted, atol=1e-5)
    tensor = alike(*(torch.from_numpy(w)[None] for w in waves))
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (1, *wanted.shape)
    np.testing.assert_allclose(tensor[0], wanted, atol=1e-5)
    streams = alike.stream(6)
    for like in (alike, streams, model.stream()):
        assert (like.sample_rate, like.latency, like.farend) == (16000, model.latency, model.farend)
    assert (streams.hop_length, streams.config) == (alike.hop_length, alike.config)
    for kind in (np.float64, np.float16):  # computed in float32, given in what was asked
        enhanced = alike(*(w.astype(kind) for w in waves))
        assert enhanced.dtype == kind
        np.testing.assert_allclose(enhanced, wanted, atol=1e-2 if kind is np.float16 else 1e-5)


def test_what_the_protocols_promise_is_there(tmp_path):
    model = small_model()
    graph = OnnxModel(export(model, tmp_path / "m.onnx"))
    streams = graph.stream(), graph.stream(2), ArrayStream(model, model.stream())
    resampled = model.stream(sample_rate=48000), graph.stream(2, sample_rate=8000)
    live = model.stream(), *resampled
    for protocol, things in (Model, (model, graph)), (LiveStream, live), (NumpyStream, streams):
        names = {name for part in protocol.__mro__ for name in (*vars(part), *getattr(part, "__annotations__", ()))}
        names = {name for name in names if not name.startswith("_")}
        assert len(names) >= 6
        for thing in things:
            assert callable(thing) and not [name for name in names if not hasattr(thing, name)]


def test_shorter_than_a_frame(tmp_path):
    model = small_model()
    alike = OnnxModel(export(model, tmp_path / "m.onnx"))
    for samples in (0, 1, 31, 64, 65):
        wave = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
        np.testing.assert_allclose(alike(wave), offline(model, [wave]), atol=1e-5)


def test_eight_bits(tmp_path):
    model = small_model()
    waves = signals(model, 60)
    path = export(model, tmp_path / "m.onnx", quantize=True)
    got, wanted = OnnxModel(path)(*waves), offline(model, waves)
    error = np.square(got - wanted).mean() / np.square(wanted).mean()
    assert 0 < error < 0.05**2
    graph = onnx.load(path).graph
    weights = [onnx.numpy_helper.to_array(w) for w in graph.initializer if w.data_type == onnx.TensorProto.INT8]
    assert len(weights) > 5 and all((np.abs(w.astype(int)).max(0) == 127).all() for w in weights)
    spectrum, mask = 2 * 12, 6 * 12  # taps of all input channels of the first and of the last convolution
    assert spectrum not in {len(w) for w in weights} and (mask, 2 * 18) not in {w.shape for w in weights}


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("variant", ["echo", "traced"])
def test_weights_of_another_precision(tmp_path, variant, precision):
    model = small_model(VARIANTS[variant]).to(precision)
    graph, waves = OnnxModel(export(model, tmp_path / "m.onnx")), signals(model, 20)
    assert next(model.parameters()).dtype == precision
    np.testing.assert_allclose(graph(*waves), offline(model.float(), waves), atol=1e-5)


def test_the_check_goes_round_the_rings(tmp_path, monkeypatch):
    from deepvqe_hub.onnx import alignment

    model = small_model({**VARIANTS["echo"], "dmax": 40})
    export(model, tmp_path / "a.onnx", frames=3)
    right = alignment.out_of_reach

    def wrong(places, frames, dmax):
        table = right(places, frames, dmax)
        table[places // 2 :] = 0  # from half a round on all that is in the ring takes part
        return table

    monkeypatch.setattr(alignment, "out_of_reach", wrong)
    with pytest.raises(RuntimeError, match="differs from the model"):
        export(model, tmp_path / "b.onnx", frames=3)


def test_the_example_of_the_alignment():
    from deepvqe_hub.models.align import AlignBlock
    from deepvqe_hub.onnx.alignment import out_of_reach, tap_values

    block = AlignBlock(1, 1, hidden=1, bins=1, dmax=5)
    tap = 3 * 3 + 0  # one frame back of five frames, one delay longer of three
    now, score = 2, 0  # slots of frame 7 and of frame 5
    value = tap_values(5, 1, block)[now, 0, score, tap]
    assert np.unravel_index(value, (5, 16, 5)) == (1, tap, 3)  # from frame 6, frame 3
    seen = np.flatnonzero(out_of_reach(5, 1, dmax=3)[now, 0] == 0)
    assert seen.tolist() == [0, 1, 2]  # frames 5, 6 and 7


def test_a_caller_that_computes_in_bfloat16(tmp_path):
    model = small_model()
    with torch.autocast("cpu", torch.bfloat16):
        graph = OnnxModel(export(model, tmp_path / "m.onnx"))
    waves = signals(model, 20)
    np.testing.assert_allclose(graph(*waves), offline(model, waves), atol=1e-5)


def test_a_model_in_training_is_exported_as_it_enhances_afterwards(tmp_path):
    model = small_model()
    waves = signals(model, 20)
    wanted = offline(model, waves)
    graph = OnnxModel(export(model.train(), tmp_path / "m.onnx"))
    np.testing.assert_allclose(graph(*waves), wanted, atol=1e-5)
    assert model.training and model.network.training


def test_description_suffices_for_plain_onnxruntime(tmp_path):
    model = small_model(VARIANTS["echo"])
    path = export(model, tmp_path / "m.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["deepvqe_hub"])
    assert info["sample_rate"] == 16000 and info["stft"]["hop_length"] == 32 and info["config"] == model.config
    spec, far = torch.randn(2, 1, 33, 40, 2)
    state = {s["name"]: np.zeros(s["shape"], s["dtype"]) for s in info["states"]}
    outputs = ["enhanced", *(s["output"] for s in info["states"])]
    got = []
    for t in range(40):
        frame = {"noisy": spec[:, :, t : t + 1].numpy(), "farend": far[:, :, t : t + 1].numpy()}
        enhanced, *values = session.run(outputs, {**frame, **state})
        state = dict(zip(state, values))
        got.append(enhanced)
    with torch.inference_mode():
        wanted, _ = model.network(spec, far)
    np.testing.assert_allclose(np.concatenate(got, 2), wanted, atol=1e-4)
    assert {s["name"] for s in info["states"]} >= set(model.network.initial_state())


def test_descriptions_that_lie(tmp_path):
    model = onnx.load(export(small_model(), tmp_path / "m.onnx"))
    entry = model.metadata_props[0]
    info = json.loads(entry.value)
    stft, states = info["stft"], info["states"]
    for changed, words in (
        ("{", "description"),
        ("[]", "description"),
        ("{}", "format_version"),
        (info | {"format_version": 2}, "upgrade"),
        ({"format_version": 2}, "upgrade"),
        (info | {"format_version": "1"}, "description"),
        (info | {"frames": 0}, "frames 0"),
        (info | {"frames": 2}, "inputs noisy"),
        (info | {"batch_size": 3}, "inputs noisy"),
        (info | {"farend": True}, "farend"),
        (info | {"sample_rate": 0}, "sample_rate 0"),
        (info | {"input": "waveform"}, r"noisy\.past"),
        (info | {"stft": stft | {"hop_length": 0}}, "hop_length"),
        (info | {"stft": stft | {"win_length": 10**9}}, "win_length"),
        (info | {"stft": stft | {"scale": 0}}, "settings"),
        (info | {"stft": stft | {"scale": float("inf")}}, "settings"),
        (info | {"states": states[1:]}, f"inputs {states[0]['name']}"),
        (info | {"states": [states[0] | {"shape": [10**12]}, *states[1:]]}, "inputs"),
        (info | {"states": [states[0] | {"output": "nowhere"}, *states[1:]]}, "outputs"),
    ):
        entry.value = changed if isinstance(changed, str) else json.dumps(changed)
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(ValueError, match=rf"m\.onnx.*{words}"):
            OnnxStream(tmp_path / "m.onnx")


def test_states_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    path = export(small_model(), tmp_path / "m.onnx")
    monkeypatch.setattr("deepvqe_hub.onnx.description._MAX_NUMBERS", 1000)
    with pytest.raises(ValueError, match="states of more than 1,000 numbers"):
        OnnxStream(path)


def test_a_graph_whose_output_is_longer_than_its_description(tmp_path):
    model = onnx.load(export(small_model(), tmp_path / "m.onnx"))
    double = onnx.helper.make_node("Concat", ["enhanced", "enhanced"], ["doubled"], axis=1)
    model.graph.node.append(double)
    output = next(value for value in model.graph.output if value.name == "enhanced")
    for node in model.graph.node:
        names = {"enhanced": "once", "doubled": "enhanced"}
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    output.type.tensor_type.shape.dim[1].dim_value *= 2
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"m\.onnx.*outputs"):
        OnnxStream(tmp_path / "m.onnx")


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from deepvqe_hub.onnx import exporting

    model = small_model()
    path = export(model, tmp_path / "m.onnx")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="force"):
        export(model, path)
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)
    with pytest.raises(RuntimeError, match="differs"):
        export(model, path, overwrite=True)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_where_a_graph_goes(tmp_path):
    model = small_model()
    assert export(model, tmp_path / "new" / "er" / "m.onnx").is_file()  # folders are made
    with pytest.raises(NotADirectoryError, match="a part of that path is a file"):
        export(model, tmp_path / "new" / "er" / "m.onnx" / "n.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="name a file"):
        export(model, tmp_path / "folder.onnx", overwrite=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.onnx")
        with pytest.raises(FileExistsError, match="not a regular file"):
            export(model, tmp_path / "pipe.onnx", overwrite=True)
        assert (tmp_path / "pipe.onnx").is_fifo()


def test_files_of_fewer_channels_than_the_graph_takes_signals(tmp_path):
    model = small_model(VARIANTS["echo"])
    graph = OnnxModel(export(model, tmp_path / "m.onnx", batch_size=2))
    for channels in (1, 2, 3):
        mic, far = np.random.default_rng(0).standard_normal((2, 5000, channels)).astype(np.float32) * 0.1
        wanted = enhance(model, mic, 16000, far)
        np.testing.assert_allclose(enhance(graph, mic, 16000, far), wanted, atol=1e-5)


def test_errors_name_the_remedy(tmp_path):
    model = small_model()
    for frames in (0, True):
        with pytest.raises(ValueError, match="frames"):
            export(model, tmp_path / "m.onnx", frames=frames)
    with pytest.raises(ValueError, match="this is Enhance; give its model"):
        export(Enhance(model), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"this is DeepVQE$"):
        export(model.network, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="quantize"):
        export(small_model(VARIANTS["traced"]), tmp_path / "m.onnx", quantize=True)
    stream = OnnxStream(export(model, tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match="far-end"):
        stream(np.zeros(10, np.float32), np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="dtype"):
        stream(np.zeros(10, np.int16))
    with pytest.raises(ValueError, match="shape"):
        stream(np.zeros((2, 10), np.float32))
    with pytest.raises(ValueError, match="NaN"):
        stream(np.full(10, np.nan))
    with pytest.raises(FileNotFoundError, match="deepvqe export"):
        OnnxStream(tmp_path / "none.onnx")


def test_odd_windows_with_the_front_end_inside(tmp_path):
    model = small_model(stft={"win_length": 63, "hop_length": 21}, sample_rate=8000)
    waves = signals(model, 40)
    stream = OnnxStream(export(model, tmp_path / "model.onnx", waveform=True))
    assert (stream.sample_rate, stream.latency) == (8000, model.latency)
    np.testing.assert_allclose(in_chunks(stream, waves, [50, 7]), offline(model, waves), atol=1e-5)


def test_providers_and_threads_that_are_not_there(tmp_path):
    path = export(small_model(), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"no provider Foo; it has .*CPUExecutionProvider"):
        OnnxStream(path, providers=["Foo"])
    assert OnnxStream(path, providers="CPUExecutionProvider")(np.zeros(64, np.float32)) is not None
    with pytest.raises(ValueError, match="from 1 to 1024"):
        OnnxStream(path, threads=2**40)
    graph = OnnxModel(path, threads=2)
    for some in (graph, copy.deepcopy(graph)):  # as other processes open it
        assert some._stream._step.session.get_session_options().intra_op_num_threads == 2


def test_runs_without_torch(tmp_path):
    path = export(small_model(VARIANTS["echo"]), tmp_path / "m.onnx")
    code = f"""
import sys
for name in ("torch", "onnx", "safetensors", "huggingface_hub", "soundfile", "soxr", "tqdm"):
    sys.modules[name] = None  # any import of it now fails
import numpy as np
from deepvqe_hub.onnx import OnnxModel, OnnxStream
stream = OnnxStream({str(path)!r})
wave = np.zeros(1000, np.float32)
assert len(stream(wave, wave)) + len(stream.flush()) == 1000
assert OnnxModel({str(path)!r})(wave).shape == (1000,)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_arithmetic_of_the_caller_stays_as_it_is(tmp_path):
    path = export(small_model(), tmp_path / "m.onnx")
    code = f"""
from deepvqe_hub.onnx import OnnxStream
OnnxStream({str(path)!r})
assert float("1e-310") / 2 > 0  # a session may have numbers as small as this flushed to zero, in all of its thread
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_what_needs_torch_names_what_does_not():
    code = """
import sys
sys.modules["torch"] = None  # any import of it now fails
import deepvqe_hub
from deepvqe_hub.cli import main
for name in ("load", "enhance", "enhance_file", "EnhancementModel"):
    try:
        getattr(deepvqe_hub, name)
    except ImportError as error:
        assert f"{name}: PyTorch is missing" in str(error) and "OnnxStream or OnnxModel" in str(error), error
    else:
        raise AssertionError(name)
sys.exit(main(["convert", "in", "out"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 2 and "OnnxStream or OnnxModel" in run.stderr, run.stderr


def test_adapters_are_traced(tmp_path):
    model = small_model()
    model.network.enblock2.conv = Adapter(model.network.enblock2.conv)
    stream, wave = OnnxStream(export(model, tmp_path / "m.onnx")), 0.1 * torch.randn(4000)
    with torch.inference_mode():
        wanted = model(wave)
    assert np.abs(np.concatenate([stream(wave.numpy()), stream.flush()]) - wanted.numpy()).max() < 1e-5
