"""Bundles, the transform among torchaudio's, and torch.export."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CONFIG

import deepvqe_hub
from deepvqe_hub import EnhancementModel, pipelines
from deepvqe_hub.hub import WeightsMissingError, registry, save_folder
from deepvqe_hub.pipelines import Enhance, EnhancementBundle

ROOT = Path(__file__).resolve().parents[1]
FAREND = {"farend_channels": [2, 3], "align_hidden": 2, "dmax": 8}
BUNDLES = [value for value in vars(pipelines).values() if isinstance(value, EnhancementBundle)]


def tiny(farend=False):
    return EnhancementModel.from_config({**CONFIG, "options": CONFIG["options"] | (FAREND if farend else {})}).eval()


def close(one, two, atol=1e-6):
    torch.testing.assert_close(one.detach(), two.detach(), rtol=0, atol=atol)


def test_a_compiled_model_is_a_model(tmp_path):
    model, noisy = tiny(), 0.1 * torch.randn(3000)
    compiled = torch.compile(model, backend="eager")
    close(deepvqe_hub.enhance(compiled, noisy, 16000), deepvqe_hub.enhance(model, noisy, 16000))
    for name, some in (("a.wav", model), ("b.wav", compiled)):
        deepvqe_hub.enhance_file(some, ROOT / "examples" / "noisy.wav", tmp_path / name)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    transform = Enhance(compiled)
    assert transform.model is compiled
    close(transform(noisy), model(noisy))
    for name, some in (("a", model), ("b", compiled)):
        save_folder(some, tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    pytest.importorskip("onnx")
    deepvqe_hub.onnx.export(compiled, tmp_path / "m.onnx")


def test_a_bundle_for_every_known_model():
    assert [bundle.name for bundle in BUNDLES] == list(registry.ENTRIES)
    for bundle in BUNDLES:
        assert getattr(pipelines, bundle.name.upper().replace("-", "_")) is bundle
        assert bundle.sample_rate == 16000 and bundle.farend == ("aec" in bundle.name)
        for word in ("Training data:", "Paper:", "arxiv.org", "Licence:", bundle.name):
            assert word in bundle.__doc__


def test_get_model(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)
    model = tiny()
    save_folder(model, tmp_path / "deepvqe-s", {"training": "On clips\nof a sort.", "limits": "None."})
    with pytest.raises(ValueError, match=r"'deepvqe-t' is neither .* did you mean deepvqe-s"):
        EnhancementBundle("deepvqe-t")
    bundle = EnhancementBundle("deepvqe-s")
    wave = 0.1 * torch.randn(1, 3000)
    close(bundle.get_model(device="cpu")(wave), model(wave))
    assert next(bundle.get_model(device="meta").parameters()).is_meta
    close(Enhance(bundle.name)(wave), model(wave))
    assert bundle.training_data == "On clips of a sort."
    assert bundle.info.parameters == sum(p.numel() for p in model.parameters())
    with pytest.raises(WeightsMissingError, match="no weights for dpcrn"):
        EnhancementBundle("dpcrn").get_model()


@pytest.mark.parametrize("shape", [(3000,), (2, 3000), (2, 1, 3000)])
def test_transform_at_the_models_rate(shape):
    model, wave = tiny(), 0.1 * torch.randn(shape)
    close(Enhance(model)(wave), model(wave))


def test_transform_with_a_far_end():
    model = tiny(farend=True)
    mic, far = 0.1 * torch.randn(2, 1, 3000)
    close(Enhance(model)(mic, far), model(mic, far))


def test_wrong_use_is_named():
    assert Enhance(tiny(), np.int64(8000)).sample_rate == 8000
    with pytest.raises(ValueError, match="not list"):
        Enhance([tiny()])
    for rate in (0, -1, 44100.0):
        with pytest.raises(ValueError, match="sample_rate"):
            Enhance(tiny(), rate)
    for rate in (16000, 8000):
        with pytest.raises(ValueError, match="noisy has dtype"):
            Enhance(tiny(), rate)(torch.zeros(100, dtype=torch.int16))
        with pytest.raises(ValueError, match="noisy is a NoneType"):
            Enhance(tiny(), rate)(None)
    with pytest.raises(ValueError, match="neither a file, a folder nor a known model"):
        Enhance("deepvqe-x")


def test_shapes_are_compared_as_they_were_given():
    """Resampled, both signals are equally long."""
    pytest.importorskip("torchaudio")
    with pytest.raises(ValueError, match=r"farend \(47998,\) and noisy \(48000,\) differ in shape"):
        Enhance(tiny(farend=True), 48000)(torch.zeros(48000), torch.zeros(47998))
    with pytest.raises(ValueError, match="noisy is a ndarray"):
        Enhance(tiny(), 48000)(np.zeros(48000, np.float32))
    with pytest.raises(ValueError, match="noisy is a single number"):
        Enhance(tiny(), 48000)(torch.tensor(1.0))


def test_nothing_comes_of_nothing():
    assert Enhance(tiny(), 44100)(torch.zeros(2, 0)).shape == (2, 0)


def test_a_model_in_training_is_put_into_evaluation_mode():
    assert not any(module.training for module in Enhance(tiny().train()).model.modules())


def test_waveforms_are_at_the_model_s_rate_unless_told():
    assert Enhance(EnhancementModel(**CONFIG, sample_rate=8000)).sample_rate == 8000


def test_transform_resamples(monkeypatch):
    torchaudio = pytest.importorskip("torchaudio")
    model, wave = tiny(), 0.1 * torch.randn(2, 4411)
    resample = torchaudio.functional.resample
    expected = resample(model(resample(wave, 44100, 16000)), 16000, 44100)[:, :4411]
    transform = Enhance(model, 44100)
    close(transform(wave), expected)
    assert transform(wave).shape == wave.shape
    for samples in (1, 2, 100):
        assert transform(wave[:, :samples]).shape == (2, samples)


def test_among_torchaudios_transforms():
    transforms = pytest.importorskip("torchaudio").transforms
    model, wave = tiny(), (0.1 * torch.randn(1, 8000)).requires_grad_()
    mel = transforms.MelSpectrogram(16000, n_mels=20)
    chain = torch.nn.Sequential(transforms.Resample(32000, 16000), Enhance(model), mel)
    close(chain(wave), mel(model(transforms.Resample(32000, 16000)(wave))))
    chain(wave).sum().backward()
    assert wave.grad.abs().sum() > 0
    assert {name.split(".")[0] for name, _ in chain.named_parameters()} == {"1"}


@pytest.mark.slow
def test_export_of_dpcrn():
    """Its LSTM over frames runs all bins as one batch, which a careless reshape would tie to the traced size."""
    network = EnhancementModel.from_config("dpcrn-light").eval().network
    spec, state = torch.randn(1, 257, 2, 2), network.initial_state(1)
    program = torch.export.export(network, (spec, None, state)).module()
    close(program(spec, None, state)[0], network(spec, None, state)[0])


@pytest.mark.parametrize("farend", [False, True])
def test_export_of_the_network_with_explicit_state(farend, tmp_path):
    """A fixed number of frames at a time, the state handed from call to call: equal to the whole spectrum at once."""
    network = tiny(farend).network
    spec, far = torch.randn(2, 1, 257, 12, 2)
    arguments = (spec[:, :, :4], far[:, :, :4] if farend else None, network.initial_state(1))
    torch.export.save(torch.export.export(network, arguments), tmp_path / "network.pt2")
    step = torch.export.load(tmp_path / "network.pt2").module()
    state, parts = network.initial_state(1), []
    for start in (0, 4, 8):
        part = slice(start, start + 4)
        out, state = step(spec[:, :, part], far[:, :, part] if farend else None, state)
        parts.append(out)
    whole, last = network(spec, far if farend else None)
    close(torch.cat(parts, 2), whole, 1e-5)
    assert all((state[name] - last[name]).abs().max() < 1e-5 for name in last)


@pytest.mark.parametrize("farend", [False, True])
def test_export_of_the_model(farend):
    """One length, longer than a block, and any batch."""
    model = tiny(farend)
    waves = [0.1 * torch.randn(3, 40000) for _ in range(1 + farend)]
    batch = {0: torch.export.Dim("batch")}
    with torch.no_grad():
        program = torch.export.export(model, tuple(w[:2] for w in waves), dynamic_shapes=(batch,) * len(waves))
        close(program.module()(*waves), model(*waves), 1e-5)


def test_export_of_the_transform():
    """From waveform to waveform, for one length; and within a chain of torchaudio's transforms."""
    model, wave = tiny(), 0.1 * torch.randn(2, 4410)
    program = torch.export.export(Enhance(model), (wave,))
    close(program.module()(wave), model(wave), 1e-5)
    transforms = pytest.importorskip("torchaudio").transforms
    chain = torch.nn.Sequential(Enhance(model, 44100), transforms.Spectrogram(400)).eval()
    close(torch.export.export(chain, (wave,)).module()(wave), chain(wave), 1e-4)


def test_not_scriptable():
    model = tiny()
    # What torch.jit cannot compile, it names by the place where it is written.
    with pytest.raises((RuntimeError, torch.jit.frontend.FrontendError), match=r'File ".*deepvqe_hub.*\.py", line'):
        torch.jit.script(model)


def test_a_broken_torchaudio_is_explained_where_it_is_needed(tmp_path):
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text('raise OSError("libc10_cuda.so: cannot open")')
    code = (
        "from deepvqe_hub import EnhancementModel, pipelines\n"
        f"model = EnhancementModel.from_config({CONFIG!r})\n"
        "pipelines.Enhance(model, 16000)\n"
        "try:\n    pipelines.Enhance(model, 8000)\nexcept ImportError as error:\n    print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert run.returncode == 0, run.stderr
    for words in ("libc10_cuda.so", "torch>=2.11,<2.15", "deepvqe_hub.enhance", torch.__version__):
        assert words in run.stdout


def test_the_pair_that_is_advised_is_the_one_that_is_required():
    pair = re.findall(r'"(torch(?:audio)?>=[^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert len(pair) == 2
    for place in ("deepvqe_hub/_optional.py", "docs/troubleshooting.md"):
        text = (ROOT / place).read_text(encoding="utf-8")
        assert all(package in text for package in pair), place


def test_public_name():
    assert deepvqe_hub.pipelines is pipelines and "pipelines" in dir(deepvqe_hub)
