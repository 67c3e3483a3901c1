"""The SpeechBrain interface, from folders and from the local Hub, with SpeechBrain's own classes beside it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hub_server import TINY, HubServer, Repo

pytest.importorskip("speechbrain")

from speechbrain.utils.fetching import FetchConfig, FetchFrom, FetchSource

import deepvqe_hub
from deepvqe_hub import EnhancementModel, Enhancer
from deepvqe_hub.hub import CheckpointError, registry, save_folder

ROOT = Path(__file__).resolve().parents[1]
AEC = {**TINY, "options": {**TINY["options"], "farend_channels": [4, 4], "align_hidden": 4, "dmax": 8}}


@pytest.fixture
def model():
    return EnhancementModel.from_config(TINY).eval()


@pytest.fixture
def folder(model, tmp_path):
    return save_folder(model, tmp_path / "checkpoint")


@pytest.fixture
def enhancer(folder):
    return Enhancer.from_hparams(str(folder))


def close(one, two):
    torch.testing.assert_close(one.detach(), two.detach(), rtol=0, atol=1e-6)


def test_from_hparams_and_from_pretrained_agree(model, folder, tmp_path):
    wave = 0.1 * torch.randn(2, 5000)
    expected = model(wave)
    for enhancer in (
        Enhancer.from_hparams(str(folder)),
        Enhancer.from_hparams(str(folder), savedir=str(tmp_path / "saved")),
        Enhancer.from_pretrained(folder),
        Enhancer.from_pretrained(model),
    ):
        close(enhancer.enhance_batch(wave), expected)
        close(enhancer(wave), expected)
        assert enhancer.sample_rate == 16000


def test_a_savedir_needs_no_links_on_windows(model, folder, tmp_path, monkeypatch):
    def forbidden(*_):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", forbidden)
    monkeypatch.setattr("deepvqe_hub.enhancer.os", SimpleNamespace(name="nt", path=os.path, fspath=os.fspath))
    wave = 0.1 * torch.randn(1, 3000)
    close(Enhancer.from_hparams(str(folder), savedir=tmp_path / "saved")(wave), model(wave))


def test_names_of_shipped_models(model, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)
    save_folder(model, tmp_path / "deepvqe-s")
    wave = 0.1 * torch.randn(1, 3000)
    close(Enhancer.from_hparams("deepvqe-s")(wave), model(wave))
    close(Enhancer.from_pretrained("deepvqe-s")(wave), model(wave))
    close(EnhancementModel.from_pretrained("deepvqe-s")(wave), model(wave))


def test_speechbrains_own_class(model, folder, tmp_path):
    from speechbrain.inference.enhancement import WaveformEnhancement

    wave = 0.1 * torch.randn(2, 5000)
    close(WaveformEnhancement.from_hparams(str(folder)).enhance_batch(wave), model(wave))
    # The YAML alone, with the weights elsewhere.
    (tmp_path / "yaml").mkdir()
    shutil.copy(folder / "hyperparams.yaml", tmp_path / "yaml")
    moved = WaveformEnhancement.from_hparams(str(tmp_path / "yaml"), overrides={"pretrained_path": str(folder)})
    close(moved.enhance_batch(wave), model(wave))


def test_a_copied_folder_loads_its_own_weights(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    other = EnhancementModel.from_config(TINY).eval()
    other.save_pretrained(tmp_path / "copy")
    wave = 0.1 * torch.randn(1, 3000)
    close(Enhancer.from_hparams(str(tmp_path / "copy"))(wave), other(wave))


def test_loading_is_strict(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["network.bottle.fc.bias"]
    save_file(tensors, folder / "model.safetensors")
    for load in (Enhancer.from_hparams, Enhancer.from_pretrained):
        with pytest.raises(CheckpointError, match=r"bottle\.fc\.bias"):
            load(str(folder))


def test_a_name_without_weights_is_not_looked_for_on_the_hub():
    for load in (Enhancer.from_hparams, Enhancer.from_pretrained):
        with pytest.raises(FileNotFoundError, match="no weights for dpcrn ship"):
            load("dpcrn")


def test_a_path_where_nothing_is_is_not_looked_for_on_the_hub(folder):
    for name in ("/data/nothere", "./nothere/x", "~/nothere", "not/here/either", Path("nothere")):
        with pytest.raises(FileNotFoundError, match=r"(nothere|not/here).*: no such file or folder"):
            Enhancer.from_hparams(name)
    with pytest.raises(ValueError, match=r"has no hyperparams\.yaml; load it with Enhancer\.from_pretrained"):
        Enhancer.from_hparams(str(folder / "config.json"))


def test_another_projects_format_is_not_downloaded(monkeypatch):
    monkeypatch.setattr("speechbrain.inference.interfaces.Pretrained.from_hparams", lambda *args, **kwargs: 1 / 0)
    for name in ("deepvqe-aec-gguf", "richiejp/deepvqe-aec-gguf", "richiejp/deepvqe-aec-gguf@v1"):
        with pytest.raises(ValueError, match=rf"{name} has no hyperparams\.yaml; load it with Enhancer"):
            Enhancer.from_hparams(name)


def test_the_home_folder(model, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    wave = 0.1 * torch.randn(3000)
    close(Enhancer.from_hparams(f"~/{folder.name}")(wave[None])[0], model(wave))
    soundfile.write(tmp_path / "a.wav", wave.numpy(), 16000, subtype="FLOAT")
    close(Enhancer.from_pretrained(folder).enhance_file("~/a.wav"), model(wave))


def test_a_revision_is_for_repositories(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wave = 0.1 * torch.randn(1, 3000)
    for name in ("mine@home", "other/mine@home"):
        model.save_pretrained(name)
        close(Enhancer.from_hparams(name)(wave), model(wave))  # what is there goes first
    model.save_pretrained("owner/tiny")
    for name in ("deepvqe-s@v1", "owner/tiny@v1"):
        with pytest.raises(ValueError, match="revision is for repositories of the Hub"):
            Enhancer.from_hparams(name)
    with pytest.raises(ValueError, match="names one revision, revision='v2' another"):
        Enhancer.from_hparams("owner/net@v1", fetch_config=FetchConfig(revision="v2"))
    with pytest.raises(ValueError, match="revision is for repositories of the Hub; the folder owner/tiny"):
        Enhancer.from_hparams("owner/tiny", fetch_config=FetchConfig(revision="v1"))


@pytest.mark.parametrize("place", [str, lambda name: FetchSource(FetchFrom.LOCAL, name)])
def test_a_savedir_is_a_source(model, folder, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    wave = 0.1 * torch.randn(1, 3000)
    Enhancer.from_hparams(str(folder), savedir="saved")
    for options in ({}, {"savedir": "another"}, {"savedir": "saved"}):
        close(Enhancer.from_hparams(place("saved"), **options)(wave), model(wave))
    EnhancementModel.from_config(TINY).save_pretrained("both")
    shutil.copy("saved/model.ckpt", "both/model.ckpt")
    close(Enhancer.from_hparams(place("both"))(wave), deepvqe_hub.load("both")(wave))  # a folder of ours as ever


def test_a_file_that_is_not_there(folder):
    for name in (str(folder / "no.wav"), "./no.wav", "~/no.wav"):
        with pytest.raises(FileNotFoundError, match=r"no\.wav: no such file"):
            Enhancer.from_pretrained(folder).enhance_file(name)


def test_a_file_that_is_there_needs_no_fetching(folder, tmp_path):
    soundfile.write(tmp_path / "noisy.wav", 0.1 * np.random.default_rng(0).standard_normal(3000), 16000)
    enhancer = Enhancer.from_pretrained(folder)
    found = [
        enhancer.enhance_file(str(tmp_path / "noisy.wav"), savedir=savedir) for savedir in (None, str(tmp_path / "new"))
    ]
    assert torch.equal(*found) and not (tmp_path / "new").exists()


def test_the_device_asked_for(folder):
    assert Enhancer.from_pretrained(folder, device="meta").model.network.bottle.fc.weight.is_meta
    assert Enhancer.from_pretrained(folder, device="meta", run_opts={"device": "cpu"}).device == "meta"
    assert Enhancer.from_pretrained(folder, device="cpu", run_opts={"precision": "bf16"}).precision == "bf16"


def test_from_pretrained_reads_no_yaml(folder):
    (folder / "hyperparams.yaml").write_text("modules: !apply:os.abort []\n")
    Enhancer.from_pretrained(folder)


@pytest.mark.parametrize("stft", [TINY["stft"], {**TINY["stft"], "window": "hann", "padding": "reflect"}])
def test_padding_never_leaks(stft):
    model = EnhancementModel.from_config({**TINY, "stft": stft}).eval()
    enhancer = Enhancer.from_pretrained(model)
    wave = 0.1 * torch.randn(2, 4000)
    wave[1, 2000:] = 100  # what padding should not be, and might
    enhanced = enhancer.enhance_batch(wave, torch.tensor([1.0, 0.5]))
    close(enhanced[0], model(wave[0]))
    close(enhanced[1, :2000], model(wave[1, :2000]))
    assert (enhanced[1, 2000:] == 0).all()


def test_files(enhancer, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noisy = 0.1 * np.random.default_rng(0).standard_normal((44100, 2))
    soundfile.write("noisy.wav", noisy, 44100, subtype="FLOAT")
    enhanced = enhancer.enhance_file("noisy.wav", output_filename="clean.wav")
    assert soundfile.info("clean.wav").subtype == "PCM_16"
    written, rate = soundfile.read("clean.wav", dtype="float32")
    assert enhanced.shape == (16000,) and rate == 16000
    np.testing.assert_allclose(written, enhanced.clamp(-1, 1), atol=1e-4)
    soundfile.write("mono.wav", noisy.mean(1), 44100, subtype="FLOAT")
    close(enhancer.enhance_file("mono.wav"), enhanced)
    os.remove("mono.wav")
    assert enhancer.enhance_file(str(tmp_path / "noisy.wav"), "clean.flac").shape == (16000,)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["clean.flac", "clean.wav", "noisy.wav"]


def test_files_as_the_command_line_writes_them(enhancer, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "noisy.wav", 0.1 * np.random.default_rng(0).standard_normal((9 * 44100 + 7, 2)), 44100)
    monkeypatch.setattr(Enhancer, "load_audio", None)  # the whole file in memory
    for name in ("out/clean.opus", "out/clean.ogg"):
        enhanced = enhancer.enhance_file(tmp_path / "noisy.wav", tmp_path / name)
        assert enhanced.shape == (9 * 16000 + 3,)
        assert soundfile.info(tmp_path / name).samplerate == 16000
    assert soundfile.info(tmp_path / "out/clean.opus").subtype == "OPUS"
    (tmp_path / "bad.wav").write_text("this is no sound\n" * 100)
    with pytest.raises(ValueError, match=r"bad\.wav: not an audio file"):
        enhancer.enhance_file(tmp_path / "bad.wav", tmp_path / "out/bad.wav")
    with pytest.raises(ValueError, match=r"cannot write \.xyz"):
        enhancer.enhance_file(tmp_path / "noisy.wav", tmp_path / "out/clean.xyz")
    with pytest.raises(ValueError, match="no far-end input"):
        enhancer.enhance_file(tmp_path / "noisy.wav", farend=tmp_path / "noisy.wav")
    assert sorted(os.listdir(tmp_path / "out")) == ["clean.ogg", "clean.opus"]


def test_far_end(tmp_path):
    model = EnhancementModel.from_config(AEC).eval()
    enhancer = Enhancer.from_hparams(str(save_folder(model, tmp_path / "aec")))
    mic, far = 0.1 * torch.randn(2, 2, 4000)
    close(enhancer.enhance_batch(mic, farend=far), model(mic, far))
    close(enhancer.enhance_batch(mic), model(mic))
    for name, wave in (("mic", mic), ("far", far[:, :3000])):
        soundfile.write(tmp_path / f"{name}.wav", wave[0].numpy(), 16000, subtype="FLOAT")
    enhanced = enhancer.enhance_file(tmp_path / "mic.wav", farend=tmp_path / "far.wav")
    close(enhanced, model(mic[0], torch.nn.functional.pad(far[0, :3000], (0, 1000))))
    chunks = enhancer.enhance_stream(mic.split(333, 1), far.split(333, 1))
    close(torch.cat(list(chunks), 1), model(mic, far))


def test_streams(enhancer, model):
    wave = 0.1 * torch.randn(4000)
    close(torch.cat(list(enhancer.enhance_stream(wave.split(100)))), model(wave))
    batch = wave[None]
    close(torch.cat(list(enhancer.enhance_stream(batch.split(1111, 1))), 1), model(batch))
    assert list(enhancer.enhance_stream([])) == []
    with pytest.raises(ValueError, match="shorter"):
        list(enhancer.enhance_stream(wave.split(1000), farend=[]))


def test_gradients_where_not_frozen(folder):
    frozen = Enhancer.from_hparams(str(folder))
    assert not frozen(torch.randn(1, 500)).requires_grad
    wave = torch.randn(1, 500, requires_grad=True)
    frozen(wave).sum().backward()  # a frozen front end still passes gradients on
    assert wave.grad.abs().sum() > 0
    free = Enhancer.from_hparams(str(folder), freeze_params=False)
    free(torch.randn(1, 500)).square().sum().backward()
    assert all(p.grad is not None for p in free.mods.parameters())


@pytest.mark.parametrize(
    "make", [lambda *args, **kwargs: Enhancer.from_hparams(str(args[0]), **kwargs), Enhancer.from_pretrained]
)
def test_a_brain_leaves_what_is_frozen_as_it_is(folder, make):
    import speechbrain

    class Recogniser(speechbrain.Brain):
        def compute_forward(self, batch, stage):
            return self.modules.layer(self.modules.enhancer(batch))

        def compute_objectives(self, predictions, batch, stage):
            return predictions.square().mean()

    wave, layer = 0.1 * torch.randn(2, 500), torch.nn.Linear(500, 1)
    frozen, free = make(folder), make(folder, freeze_params=False)
    expected, before = frozen(wave), {name: value.clone() for name, value in frozen.state_dict().items()}
    for enhancer in (frozen, free):
        modules = {"enhancer": enhancer, "layer": layer}
        brain = Recogniser(modules, lambda parameters: torch.optim.SGD(parameters, lr=0.01), run_opts={"device": "cpu"})
        brain.fit(range(1), [wave], progressbar=False)
    assert frozen.training and not frozen.model.training and not frozen.model.network.enblock1.bn.training
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert torch.equal(frozen(wave), expected)
    assert free.model.network.enblock1.bn.training
    moved = {name for name, value in free.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.endswith("running_mean") for name in moved) and any(name.endswith("weight") for name in moved)
    assert not free.eval().model.training and not free(wave).isnan().any()


def test_a_compiled_model(model, tmp_path):
    compiled, wave = Enhancer.from_pretrained(torch.compile(model, backend="eager")), 0.1 * torch.randn(1, 3000)
    torch.testing.assert_close(compiled(wave), Enhancer.from_pretrained(model)(wave))
    soundfile.write(tmp_path / "a.wav", wave[0].numpy(), compiled.sample_rate)
    enhanced = [some.enhance_file(tmp_path / "a.wav") for some in (compiled, Enhancer.from_pretrained(model))]
    torch.testing.assert_close(*enhanced)


def test_reduced_precision(folder, model):
    enhancer = Enhancer.from_hparams(str(folder), run_opts={"precision": "bf16", "device": "cpu"})
    wave = 0.1 * torch.randn(1, 3000)
    assert enhancer(wave).dtype == torch.float32
    torch.testing.assert_close(enhancer(wave), model(wave).detach(), rtol=0, atol=0.02)
    live = torch.cat(list(enhancer.enhance_stream(wave[0].split(500))), -1)
    torch.testing.assert_close(live, enhancer(wave)[0], rtol=0, atol=0.02)
    for part in (slice(2000), slice(-500, None)):  # what comes out of chunks, and of the end
        assert (live - model(wave)[0])[part].abs().max() > 1e-4  # in float32 it would be 1e-6


def test_first_stage_of_a_recogniser(folder, tmp_path, model):
    """One hparams file: enhancement, features, and a tiny recogniser with random weights."""
    from hyperpyyaml import load_hyperpyyaml

    text = f"""
enhancer: !apply:deepvqe_hub.Enhancer.from_pretrained
  source: {folder}
features: !new:speechbrain.lobes.features.Fbank
  n_mels: 20
recogniser: !new:torch.nn.GRU
  input_size: 20
  hidden_size: 8
  batch_first: true
"""
    hparams = load_hyperpyyaml(text)
    wave = 0.1 * torch.randn(2, 8000)
    tokens, _ = hparams["recogniser"](hparams["features"](hparams["enhancer"](wave, torch.tensor([1.0, 0.7]))))
    assert tokens.shape[0] == 2 and tokens.requires_grad


def test_inside_a_data_pipeline(enhancer, model, tmp_path):
    from speechbrain.dataio.dataset import DynamicItemDataset
    from speechbrain.utils.data_pipeline import provides, takes

    soundfile.write(tmp_path / "a.wav", np.full(3000, 0.1), 16000, subtype="FLOAT")

    @takes("path")
    @provides("enhanced")
    def pipeline(path):
        return enhancer.enhance_file(path)

    data = DynamicItemDataset({"a": {"path": str(tmp_path / "a.wav")}}, [pipeline], ["id", "enhanced"])
    close(data[0]["enhanced"], model(torch.full((3000,), 0.1)))


HUB_SCRIPT = """
import json, sys
import torch
from speechbrain.inference.enhancement import WaveformEnhancement
from speechbrain.utils.fetching import FetchConfig
from deepvqe_hub import Enhancer

def energy(model):
    return float(model.enhance_batch(0.1 * torch.sin(torch.arange(3000.0))[None]).square().sum())

print("ANSWER" + json.dumps({
    "main": energy(Enhancer.from_hparams("owner/tiny", savedir=SAVED)),
    "tag": energy(Enhancer.from_hparams("owner/tiny", fetch_config=FetchConfig(revision="v1"))),
    "at": energy(at := Enhancer.from_hparams("owner/tiny@v1", fetch_config=FetchConfig(huggingface_cache_dir=CACHE))),
    "rate": at.sample_rate,
    "data": energy(Enhancer.from_pretrained("owner/tiny", revision="v1")),
    "theirs": energy(WaveformEnhancement.from_hparams("owner/tiny")),
    "cached": energy(Enhancer.from_hparams("owner/tiny", fetch_config=FetchConfig(allow_network=False))),
}))
"""


def answers_of(script, server, folder):
    """What a program that uses `server` as its Hub prints as JSON after the word ANSWER; its caches are in `folder`."""
    environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(folder / "hf"), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        cwd=folder,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.split("ANSWER")[1])


def test_from_the_hub(tmp_path):
    models = [EnhancementModel.from_config({**TINY, "sample_rate": rate}).eval() for rate in (8000, 16000)]
    wave = 0.1 * torch.sin(torch.arange(3000.0))[None]
    old, new = (float(model(wave).detach().square().sum()) for model in models)
    with HubServer() as server:
        repo = server.repos["owner/tiny"] = Repo()
        for i, (ref, model) in enumerate(zip(("v1", "main"), models)):
            folder = save_folder(model, tmp_path / str(i))
            repo.commit({path.name: path.read_bytes() for path in folder.iterdir()}, ref)
        places = str(tmp_path / "saved"), str(tmp_path / "cache")
        answers = answers_of(f"SAVED, CACHE = {places!r}\n{HUB_SCRIPT}", server, tmp_path)
    expected = {"main": new, "tag": old, "at": old, "rate": 8000, "data": old, "theirs": new, "cached": new}
    assert answers == pytest.approx(expected, rel=1e-4)
    assert (tmp_path / "cache" / "models--owner--tiny").is_dir(), "what else fetch_config says holds as well"


ERRORS_SCRIPT = """
import json, os
from speechbrain.utils.fetching import FetchConfig
from deepvqe_hub import Enhancer

answers = {}
for name, options in {
    "owner/nothing": {},
    "owner/gated": {},
    "owner/tiny": {"fetch_config": FetchConfig(revision="v9")},
    "owner/tiny@main": {"fetch_config": FetchConfig(allow_network=False)},
    "owner/no-yaml": {},
    "owner/no-weights": {},
}.items():
    try:
        Enhancer.from_hparams(name, **options)
    except Exception as error:
        answers[name] = [type(error).__name__, str(error)]
print("ANSWER" + json.dumps(answers))
"""


def test_errors_of_the_hub_are_those_of_load(folder, tmp_path):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with HubServer() as server:
        for name, lacking in {"tiny": "", "no-yaml": "hyperparams.yaml", "no-weights": "model.safetensors"}.items():
            server.repos[f"owner/{name}"] = Repo()
            server.repos[f"owner/{name}"].commit({k: v for k, v in files.items() if k != lacking})
        server.repos["owner/gated"] = Repo(gated=True)
        answers = answers_of(ERRORS_SCRIPT, server, tmp_path)
    for name, kind, words in (
        ("owner/nothing", "RepositoryMissingError", "or it is private: try `hf auth login`"),
        ("owner/nothing", "RepositoryMissingError", "fetch_config=FetchConfig(token=True)"),
        ("owner/gated", "GatedRepositoryError", "accept its conditions"),
        ("owner/tiny", "RevisionMissingError", "no branch, tag or commit v9"),
        ("owner/tiny@main", "NotCachedError", "owner/tiny at revision main: hyperparams.yaml is not in the cache"),
        ("owner/no-yaml", "CheckpointError", "has no hyperparams.yaml; load it with Enhancer.from_pretrained"),
        ("owner/no-weights", "CheckpointError", "it has no model.safetensors"),
    ):
        assert answers[name][0] == kind and words in answers[name][1], answers[name]


def test_a_folder_without_yaml(folder, tmp_path):
    Enhancer.from_hparams(folder, savedir=tmp_path / "saved")
    (folder / "hyperparams.yaml").rename(tmp_path / "hyperparams.yaml")
    with pytest.raises(CheckpointError, match=r"has no hyperparams.yaml; load it with Enhancer.from_pretrained"):
        Enhancer.from_hparams(folder, savedir=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    Enhancer.from_hparams(tmp_path, overrides={"pretrained_path": str(folder)})


def test_the_licence_is_that_of_the_weights(model, tmp_path):
    theirs = save_folder(model, tmp_path / "theirs", {"license": "cc-by-nc-4.0"})
    for options in ({}, {"savedir": str(tmp_path / "saved")}):
        assert Enhancer.from_hparams(str(theirs), **options).model.license == "cc-by-nc-4.0"
    (theirs / "README.md").unlink()
    assert Enhancer.from_hparams(str(theirs)).model.license == "unknown"


def test_wrong_use_is_named(enhancer, folder):
    wave = np.zeros(1000, np.float32)
    with pytest.raises(ValueError, match="noisy is a ndarray"):
        enhancer.enhance_batch(wave[None])
    with pytest.raises(ValueError, match="chunk is a ndarray"):
        list(enhancer.enhance_stream([wave]))
    with pytest.raises(ValueError, match="runs on PyTorch"):
        Enhancer.from_pretrained(folder, backend="onnx")
    with pytest.raises(ValueError, match="did you mean deepvqe-s"):
        Enhancer.from_hparams("deepvqe_s")
    with pytest.raises(TypeError, match="of an Enhancer, not Enhancer"):
        deepvqe_hub.enhance(enhancer, wave, 16000)
    with pytest.raises(TypeError, match="not str"):
        deepvqe_hub.enhance_file("deepvqe-s", "noisy.wav", "clean.wav")
    with pytest.raises(TypeError, match="a path, bytes or a binary file is needed, not ndarray"):
        deepvqe_hub.enhance_file(enhancer.model, wave, "clean.wav")


def test_a_broken_torchaudio_is_explained(tmp_path):
    """A package in torchaudio's place that fails to import as the real one does beside another CUDA."""
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(
        'raise OSError("libc10_cuda.so: cannot open shared object file")'
    )
    code = (
        "import deepvqe_hub; deepvqe_hub.load\ntry:\n    deepvqe_hub.Enhancer\nexcept ImportError as e:\n    print(e)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert run.returncode == 0, run.stderr
    for words in ("libc10_cuda.so", "for the CPU", "CUDA version", "torch>=2.11,<2.15", torch.__version__):
        assert words in run.stdout
