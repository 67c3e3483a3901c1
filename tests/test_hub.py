"""Checkpoint folders and names: what is read, what is written, what is refused."""

import errno
import functools
import json
import ntpath
import os
import re
from types import SimpleNamespace

import pytest
import torch
from hub_server import TINY
from safetensors.torch import load_file, save_file
from tiny import same_weights

from deepvqe_hub import EnhancementModel, load
from deepvqe_hub.hub import (
    CheckpointError,
    FormatVersionError,
    HubError,
    WeightsMissingError,
    list_models,
    registry,
    save_folder,
)
from deepvqe_hub.hub.resolving import resolve
from deepvqe_hub.hub.upload import upload

# Folders


def test_folder_round_trip(model, folder):
    loaded = load(folder)
    assert same_weights(model, loaded) and not loaded.training
    assert loaded.config == model.config
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "as readable as any other file"
    assert same_weights(model, load(str(folder))) and same_weights(model, EnhancementModel.from_pretrained(folder))


def test_loading_leaves_the_random_numbers_of_the_user_alone(folder):
    torch.manual_seed(7)
    first = torch.rand(3)
    torch.manual_seed(7)
    load(folder)
    torch.testing.assert_close(torch.rand(3), first, rtol=0, atol=0)


def test_a_subclass_loads_as_itself(folder):
    class Mine(EnhancementModel):
        pass

    assert type(Mine.from_pretrained(folder)) is Mine


def test_arguments_of_a_subclass_are_not_lost_silently(tmp_path):
    class Mine(EnhancementModel):
        def __init__(self, *arguments, extra=1, **settings):
            super().__init__(*arguments, **settings)
            self.extra = extra

    with pytest.raises(ValueError, match=r"Mine was made with extra=7, which config.json does not hold"):
        Mine(**TINY, extra=7).save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    Mine(**TINY, extra=1).save_pretrained(tmp_path / "mine")
    assert Mine.from_pretrained(tmp_path / "mine").extra == 1
    Mine(*TINY.values()).save_pretrained(tmp_path / "mine")


def test_half_precision_is_half_the_size_and_float32_again(model, folder, tmp_path):
    half = save_folder(model, tmp_path / "half", half=True)
    assert (half / "model.safetensors").stat().st_size < 0.8 * (folder / "model.safetensors").stat().st_size
    for name, tensor in load_file(half / "model.safetensors").items():
        kept = torch.float32 if tensor.is_floating_point() else tensor.dtype
        assert tensor.dtype == (torch.float16 if tensor.dim() > 1 else kept), name
    loaded = load(half)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    for a, b in zip(model.parameters(), loaded.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_nothing_is_overwritten_unasked(model, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="force"):
        save_folder(model, folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "sample.wav").write_bytes(b"mine")
    (folder / "README.md").write_text("edited")
    EnhancementModel.from_config(TINY).save_pretrained(folder)
    assert (folder / "README.md").read_text() == "edited" and (folder / "sample.wav").read_bytes() == b"mine"
    assert not same_weights(model, load(folder))


def test_a_model_is_saved_with_its_own_config_and_no_other(model, tmp_path):
    with pytest.raises(ValueError, match="leave config out"):
        model.save_pretrained(tmp_path / "m", config={"network": "nonsense"})
    assert not (tmp_path / "m").exists()
    model.save_pretrained(tmp_path / "m", config=dict(model.config))
    assert same_weights(model, load(tmp_path / "m"))


def test_the_home_folder(model, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("~/saved")
    assert same_weights(model, load(tmp_path / "home" / "saved")) and not (tmp_path / "~").exists()
    assert EnhancementModel.from_config("~/saved/config.json").config == model.config
    with pytest.raises(ValueError, match="~nobody-at-all"):
        model.save_pretrained("~nobody-at-all/saved")


@pytest.mark.parametrize("thing", [None, "deepvqe-s", torch.nn.Linear(1, 1)])
def test_what_is_no_model_is_not_saved(thing, tmp_path):
    with pytest.raises(ValueError, match=f"can be saved, and this is {type(thing).__name__}$"):
        save_folder(thing, tmp_path / "bad")
    with pytest.raises(ValueError, match="SimpleNamespace; give its model"):  # such as an Enhancer
        save_folder(SimpleNamespace(model=EnhancementModel.from_config(TINY)), tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_nothing(model, tmp_path):
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        save_folder(model, tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="limits of processes")
@pytest.mark.parametrize("name", ["folder", "new.tar", "new.gguf", "new.onnx"])
def test_a_full_disk_is_told_with_the_file(name, tmp_path):
    """The error of the system says only that there is no space."""
    import resource

    from deepvqe_hub.hub.writers import WRITERS

    if name.endswith((".gguf", ".onnx")):
        pytest.importorskip(name[4:])
    preset = {".tar": "deepvqe", ".gguf": "deepvqe-aec-gguf"}.get(name[3:], "deepvqe-s")
    write = WRITERS.get(name[3:], save_folder)
    model, before = EnhancementModel.from_config(preset), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(OSError, match=rf"{name}: writing failed|cannot write: File too large: .*{name}"):
            write(model, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_on_another_disk_than_its_parent(model, tmp_path, monkeypatch):
    disk = (tmp_path / "disk").resolve()
    disk.mkdir()
    (tmp_path / "link").symlink_to(disk)
    replace = os.replace

    def within_a_disk(source, target):
        if not source.resolve().is_relative_to(disk):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", within_a_disk)
    assert same_weights(model, load(save_folder(model, tmp_path / "link")))
    assert len(list(disk.iterdir())) == 4 and sorted(p.name for p in tmp_path.iterdir()) == ["disk", "link"]
    for name, target in {"file": tmp_path / "link" / "README.md", "nothing": tmp_path / "gone"}.items():
        (tmp_path / name).symlink_to(target)
        with pytest.raises(FileExistsError, match="a checkpoint is a folder"):
            save_folder(model, tmp_path / name)


def spoil_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": None}, "not a deepvqe-hub checkpoint.*network"),
        ({"network": "Transformer"}, "Transformer"),
        ({"network": "__doc__"}, "__doc__"),
        ({"network": ["DeepVQE"]}, "config"),
        ({"format_version": "1"}, "format_version"),
        ({"surprise": 1}, "surprise"),
        ({"sample_rate": 10**12}, "sample_rate"),
        ({"options": {"hidden": 10**9}}, "out of range"),
        ({"options": {"hidden": 60_000, "channels": [60_000] * 5}}, "parameters"),
        ({"options": {"channels": [4] * 1000}}, "1000 entries"),
        ({"options": {"farend_channels": [64, 2048], "dmax": 60_000}}, "remember"),
        ({"options": {"wings": 2}}, "wings"),
        ({"options": {"hidden": "many"}}, "config"),
        ({"options": {"hidden": -5}}, "config"),
        ({"stft": {"win_length": 60_000, "hop_length": 1}}, "config"),
        ({"stft": {"win_length": 512, "hop_length": 1}}, "4,112,000 spectral bins a second; the limit is 524,288"),
        ({"sample_rate": 384_000, "stft": {"win_length": 512, "hop_length": 128}}, "spectral bins a second"),
        ({"stft": {"window": "hamming"}}, "hamming"),
        ({"stft": {"win_length": 64.0, "hop_length": 32}}, "whole number"),
        ({"stft": {"scale": 1e300}}, "out of range"),
        ({"options": {"compression": None}}, "config"),
        ({"options": {"compression": -1.0}}, "compression"),
        ({"network": "TFGridNet", "options": {"blocks": 60_000}}, "60000 blocks"),
        ({"network": "TFGridNet", "options": {"heads": 60_000}}, "60000 heads"),
    ],
)
def test_absurd_configs_are_refused(folder, changes, words):
    spoil_config(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


def test_a_later_format_is_told_apart(folder):
    spoil_config(folder, format_version=2)
    with pytest.raises(FormatVersionError, match="upgrade"):
        load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 50_000, '{"network": NaN}', "x" * 100_000])
def test_broken_json(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="config"):
        load(folder)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "type", "nan", "range"])
def test_weights_must_fit(folder, fault):
    tensors = load_file(folder / "model.safetensors")
    name = "network.bottle.fc.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "unknown":
        tensors[name := "network.extra"] = torch.zeros(1)
    elif fault == "shape":
        tensors[name] = tensors[name][:-1].clone()
    elif fault == "type":
        tensors[name] = tensors[name].to(torch.int32)
    elif fault == "range":
        tensors[name] = tensors[name].double() + 1e300  # infinite in single precision
    else:
        tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load(folder)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        EnhancementModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 8,  # a header of 2^64 bytes
        (10).to_bytes(8, "little") + b"{",
        b"",
        (lambda text: len(text).to_bytes(8, "little") + text)(
            b'{"network.x": {"dtype": "F32", "shape": [1000000000, 1000], "data_offsets": [0, 4000000000000]}}'
        ),
    ],
    ids=["huge", "short", "empty", "offsets"],
)
def test_lying_safetensors_headers(folder, header):
    (folder / "model.safetensors").write_bytes(header)
    with pytest.raises(CheckpointError, match="safetensors"):
        load(folder)


def test_yaml_beside_the_weights_is_never_parsed(folder, tmp_path):
    bait = f"x: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{tmp_path / 'ran'}']]\n"
    (folder / "hyperparams.yaml").write_text(bait + "modules: !apply:os.abort []\n")
    load(folder)
    EnhancementModel.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


# Names


@pytest.mark.parametrize(
    ("source", "words"),
    [(None, "not by NoneType"), (b"deepvqe-s", "not by bytes"), (3, "not by int"), ("~nobody-at-all/x.tar", "~nobody")],
)
def test_what_names_nothing(source, words):
    for read in (load, EnhancementModel.from_pretrained):
        with pytest.raises(ValueError, match=words):
            read(source)


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="deepvqe-s on device nonsense"):
        load("deepvqe-s", device="nonsense")


def test_names(monkeypatch, model, tmp_path):
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(WeightsMissingError, match=r"no weights for deepvqe-s.*from_config"):
        load("deepvqe-s")
    save_folder(model, tmp_path / "deepvqe-s")
    assert same_weights(model, load("deepvqe-s", device="cpu"))
    with pytest.raises(WeightsMissingError, match=r"there are some for: deepvqe-s"):
        load("deepvqe")
    with pytest.raises(ValueError, match="did you mean deepvqe-s"):
        load("deepvqes")
    with pytest.raises(ValueError, match="revision"):
        load("deepvqe-s", revision="v1")
    with pytest.raises(ValueError, match="colour"):
        load("deepvqe-s", colour="red")
    with pytest.raises(ValueError, match="did you mean deepvqe-s"):
        load("DeepVQE-S")
    with pytest.raises(ValueError, match=r"is an address; .* owner/name"):
        load("https://huggingface.co/owner/name")
    with pytest.raises(FileNotFoundError, match=r"^mine: no such file or folder"):
        load("mine/")
    with pytest.raises(HubError, match=r"'my own/model' cannot be .* no local folder of that name"):
        load("my own/model")


def test_paths_of_windows_are_not_looked_for_on_the_hub(monkeypatch):
    monkeypatch.setattr(os, "sep", "\\")
    monkeypatch.setattr(os.path, "splitdrive", ntpath.splitdrive)
    for name in ("C:/nothing", "C:nothing/here", "\\\\server\\nothing", "nothing\\here"):
        with pytest.raises(FileNotFoundError, match=r"nothing.*: no such file or folder"):
            resolve(name)
    assert resolve("owner/name").kind == "repository"


def test_names_mean_the_same_to_from_pretrained(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="revision is for repositories"):
        EnhancementModel.from_pretrained("deepvqe-s", revision="v1")
    with pytest.raises(WeightsMissingError, match="no weights for dpcrn"):
        EnhancementModel.from_pretrained("dpcrn")
    with pytest.raises(ValueError, match="did you mean deepvqe-s"):
        EnhancementModel.from_pretrained("deepvqes")
    model.save_pretrained("dpcrn")
    for look in (load, EnhancementModel.from_pretrained):
        with pytest.raises(WeightsMissingError, match=r'load the folder of that name: "\./dpcrn"'):
            look("dpcrn")
        assert same_weights(model, look("./dpcrn"))
    with pytest.raises(ValueError, match="the folder dpcrn"):
        EnhancementModel.from_pretrained("./dpcrn", revision="v1")


def test_a_folder_goes_before_a_known_repository_of_its_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("richiejp/deepvqe-aec-gguf")
    assert same_weights(model, load("richiejp/deepvqe-aec-gguf"))


def test_a_revision_in_the_name(model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="revision is for repositories of the Hub; the model deepvqe-s"):
        load("deepvqe-s@v1")
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("mine@home")
    model.save_pretrained("other/mine@home")
    for name in ("mine@home", "other/mine@home"):  # what is there goes first
        assert same_weights(model, load(name))


def test_what_load_is_told_of_the_hub_is_told_the_hub(monkeypatch, tmp_path):
    asked = {}

    def download(repository, name, **options):
        asked.update(options)
        raise ValueError("no more is needed")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    options = {"token": "hf_x", "cache_dir": tmp_path, "local_files_only": True, "force_download": True}
    with pytest.raises(HubError, match="no more is needed"):
        load("someone/model@v1", **options)
    assert asked == options | {"revision": "v1"}


def test_what_push_is_told_is_told_the_hub(monkeypatch, folder):
    asked = {}

    class Api:
        def __init__(self, token):
            asked["token"] = token

        def create_repo(self, repo_id, **options):
            asked.update(options)
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def create_commit(self, repo_id, operations, **options):
            asked.update(options)

    monkeypatch.setattr("deepvqe_hub.hub.upload.HfApi", Api)
    options = {"token": "hf_x", "private": True, "branch": "b", "create_pr": True, "commit_message": "why"}
    model = load(folder)
    for push in (
        functools.partial(upload, folder),
        functools.partial(model.push_to_hub, model_card_kwargs={"name": "x"}),
    ):
        asked.clear()
        push("x", **options)
        assert asked == {
            **{"token": "hf_x", "private": True, "exist_ok": True},
            **{"revision": "b", "create_pr": True, "commit_message": "why"},
        }


def test_a_file_of_a_folder_is_not_the_checkpoint(folder):
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(CheckpointError, match=rf"{name} is only the .*; load the folder that holds its .* as well"):
            load(str(folder / name))
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(folder / "nothing" / "config.json")


def test_list_models():
    rows = {row.name: row for row in list_models()}
    assert rows["deepvqe"].parameters == 7_509_942 and rows["deepvqe"].weights == "in the package"
    assert rows["deepvqe-aec"].farend and not rows["deepvqe-s"].farend
    assert 7.9e9 < rows["deepvqe"].macs_per_second < 8.1e9
    assert rows["deepvqe-aec-gguf"].available and "richiejp" in rows["deepvqe-aec-gguf"].weights
    assert {row.license for row in rows.values()} == {"apache-2.0"}


def test_every_listed_name_is_a_preset():
    for row in list_models():
        with torch.device("meta"):
            model = EnhancementModel.from_config(row.name)
        assert (model.farend, model.network.streams, model.sample_rate) == (row.farend, row.streams, row.sample_rate)
