"""Checkpoint folders and other projects' files: what is read, what is written, what is refused."""

import errno
import json
import ntpath
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hub_server import TINY
from safetensors.torch import load_file, save_file

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
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.presets import PRESETS


def same(one, two) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# Folders


def test_folder_round_trip(model, folder):
    loaded = load(folder)
    assert same(model, loaded) and not loaded.training
    assert loaded.config == model.config
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "as readable as any other file"
    assert same(model, load(str(folder))) and same(model, EnhancementModel.from_pretrained(folder))


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
    assert not same(model, load(folder))


def test_a_model_is_saved_with_its_own_config_and_no_other(model, tmp_path):
    with pytest.raises(ValueError, match="leave config out"):
        model.save_pretrained(tmp_path / "m", config={"network": "nonsense"})
    assert not (tmp_path / "m").exists()
    model.save_pretrained(tmp_path / "m", config=dict(model.config))
    assert same(model, load(tmp_path / "m"))


def test_the_home_folder(model, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("~/saved")
    assert same(model, load(tmp_path / "home" / "saved")) and not (tmp_path / "~").exists()
    assert EnhancementModel.from_config("~/saved/config.json").config == model.config
    with pytest.raises(ValueError, match="~nobody-at-all"):
        model.save_pretrained("~nobody-at-all/saved")


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
    import errno

    disk = (tmp_path / "disk").resolve()
    disk.mkdir()
    (tmp_path / "link").symlink_to(disk)
    replace = os.replace

    def within_a_disk(source, target):
        if not source.resolve().is_relative_to(disk):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", within_a_disk)
    assert same(model, load(save_folder(model, tmp_path / "link")))
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
    assert same(model, load("deepvqe-s", device="cpu"))
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
        assert same(model, look("./dpcrn"))
    with pytest.raises(ValueError, match="the folder dpcrn"):
        EnhancementModel.from_pretrained("./dpcrn", revision="v1")


def test_a_folder_goes_before_a_known_repository_of_its_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("richiejp/deepvqe-aec-gguf")
    assert same(model, load("richiejp/deepvqe-aec-gguf"))


def test_a_revision_in_the_name(model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="revision is for repositories of the Hub; the model deepvqe-s"):
        load("deepvqe-s@v1")
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("mine@home")
    model.save_pretrained("other/mine@home")
    assert same(model, load("mine@home")) and same(model, load("other/mine@home"))  # what is there goes first


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
    upload(folder, "x", token="hf_x", private=True, branch="b", create_pr=True, commit_message="why")
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


# Single files


def streaming_names(weights):
    """The same weights as the reference implementation's streaming network calls them."""
    return {
        re.sub(r"(?<!skip_)conv\.(weight|bias)$", r"conv.Conv2d.\1", name): value for name, value in weights.items()
    }


@pytest.mark.parametrize("naming", [dict, streaming_names])
def test_reference_checkpoint(naming, seed_weights, tmp_path, parity, error):
    weights = naming(seed_weights)
    assert len(weights) == 156 and any("Conv2d" in name for name in weights) == (naming is streaming_names)
    torch.save({"model": weights, "epoch": 3}, tmp_path / "x.tar")
    numbers = np.load(parity("deepvqe_seed.npz"))
    assert abs(sum(float(value.double().sum()) for value in weights.values()) - float(numbers["checksum"])) < 1e-6
    with torch.no_grad():
        enhanced, _ = load(tmp_path / "x.tar").network(torch.from_numpy(numbers["x"]))
    assert error(enhanced, numbers["y"]) < 1e-5


def test_reference_windows(seed_weights, tmp_path):
    torch.save({"model": seed_weights}, tmp_path / "x.tar")
    assert load(tmp_path / "x.tar").stft.window == "sqrt_hann"
    hann = load(tmp_path / "x.tar", window="hann").stft
    assert (hann.window, hann.padding) == ("hann", "reflect")
    with pytest.raises(ValueError, match="temperature"):
        load(tmp_path / "x.tar", temperature=0.1)
    with pytest.raises(CheckpointError, match="bartlett"):
        load(tmp_path / "x.tar", window="bartlett")


def test_reference_checkpoints_are_strict(seed_weights, tmp_path):
    weights = dict(seed_weights)
    weights["bottle.fc.wait"] = weights.pop("bottle.fc.weight")
    torch.save({"model": weights}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match=r"missing: network.bottle.fc.weight; unknown: network.bottle.fc.wait"):
        load(tmp_path / "x.tar")
    torch.save({"model": seed_weights | streaming_names(seed_weights)}, tmp_path / "x.tar")
    with pytest.raises(CheckpointError, match="both of the plain and of the streaming network"):
        load(tmp_path / "x.tar")
    torch.save({"state": 1}, tmp_path / "y.tar")
    with pytest.raises(CheckpointError, match="state"):
        load(tmp_path / "y.tar")


@pytest.mark.parametrize(("held", "key"), [(lambda state: state, ""), (lambda state: {"model": state}, '["model"]')])
def test_a_state_dict_of_ours_has_no_config(held, key, model, tmp_path):
    torch.save(held(model.state_dict()), tmp_path / "sd.pt")
    with pytest.raises(CheckpointError, match=r"state_dict, which has no config.*save_pretrained") as refused:
        load(tmp_path / "sd.pt")
    remedy = re.search(r"model\.load_state_dict.*?\)(\[.*\])?\)(?=\. )", str(refused.value))[0]
    assert "EnhancementModel.from_config(name)" in str(refused.value) and remedy.endswith(f"weights_only=True){key})")
    other = EnhancementModel.from_config(TINY)
    exec(remedy, {"model": other, "torch": torch})  # does what it says
    assert same(model, other)


def test_gguf(parity, error):
    """Eight-bit weights of the echo-cancelling network; the numbers were made with the weights before rounding."""
    pytest.importorskip("gguf")
    numbers = {name: torch.from_numpy(value) for name, value in np.load(parity("deepvqe_rand_io.npz")).items()}
    model = load(parity("deepvqe_rand_q8.gguf"))
    with torch.no_grad():
        enhanced, _ = model.network(numbers["mic"], numbers["ref"])
        delay = model.network.delay(numbers["mic"], numbers["ref"]).flip(-1)
        cold = load(parity("deepvqe_rand_q8.gguf"), temperature=0.5)
        colder, _ = cold.network(numbers["mic"], numbers["ref"])
    assert error(enhanced, numbers["out"]) < 6e-3
    assert error(delay, numbers["delay"]) < 1e-2  # the softmax magnifies the rounding
    assert error(colder, numbers["out"]) > 1e-3
    torch.testing.assert_close(cold.network.align.conv.weight / 2, model.network.align.conv.weight)


def test_gguf_round_trip_and_unfolded_files(lively, tmp_path, error):
    gguf = pytest.importorskip("gguf")
    from deepvqe_hub.hub.writers import WRITERS

    model = lively(EnhancementModel.from_config("deepvqe-aec-gguf"))
    WRITERS[".gguf"](model, tmp_path / "x.gguf")
    back = load(tmp_path / "x.gguf")
    assert back.config["options"]["dmax"] == 32
    spec = torch.randn(2, 1, 257, 12, 2)
    with torch.no_grad():
        assert error(back.network(*spec)[0], model.network(*spec)[0]) < 1e-5
    reader = gguf.GGUFReader(tmp_path / "x.gguf", "r+")
    root = next(tensor.data for tensor in reader.tensors if tensor.name == "ccm.v_imag")
    for numbers, value, words in (
        (root, root[1] + 0.1, "ccm.v_imag is not the constant"),
        (reader.fields["deepvqe.version"].parts[-1], 2, "version 2"),
        (reader.fields["deepvqe.bn_folded"].parts[-1], False, "statistics"),
    ):
        place = len(numbers) // 2
        before, numbers[place] = numbers[place], value
        reader.data.flush()
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / "x.gguf")
        numbers[place] = before


@pytest.mark.parametrize(
    ("ending", "change", "words"),
    [
        (".tar", {"stft": {"window": "sine"}}, r"window \(sine, not sqrt_hann\)"),
        (".tar", {"stft": {"padding": "none"}}, r"padding \(none, not zeros\)"),
        (".tar", {"stft": {"scale": 2.0}}, "scale"),
        (".tar", {"sample_rate": 48000}, "sample_rate"),
        (".gguf", {"stft": {"window": "hann", "padding": "reflect"}}, r"window \(hann, not sqrt_hann\), padding"),
        (".gguf", {"stft": {"scale": 2.0}}, "scale"),
    ],
)
def test_a_front_end_that_the_format_cannot_say_is_refused(ending, change, words, tmp_path):
    from deepvqe_hub.hub.writers import WRITERS

    preset, options = ("deepvqe", {}) if ending == ".tar" else ("deepvqe-aec", {"upsampling": "concat"})
    config = PRESETS[preset] | {"options": PRESETS[preset]["options"] | options} | change
    with torch.device("meta"):
        model = EnhancementModel.from_config(config)
    with pytest.raises(ValueError, match=words):
        WRITERS[ending](model, tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".tar", ".gguf"])
def test_options_that_the_format_cannot_say_are_refused(ending, tmp_path, monkeypatch):
    """Also those that change no shape, and that nobody has thought of when the writer was written."""
    from deepvqe_hub.hub.writers import WRITERS
    from deepvqe_hub.models import NETWORKS

    class Later(DeepVQE):
        def __init__(self, bins=257, exponent=1.0, **options):
            super().__init__(bins, **options)

    monkeypatch.setitem(NETWORKS, "DeepVQE", Later)
    preset, options = ("deepvqe", {}) if ending == ".tar" else ("deepvqe-aec", {"upsampling": "concat"})
    for change in ({"exponent": 2.0}, {"compression": 0.5}):
        with torch.device("meta"):
            model = EnhancementModel.from_config(
                PRESETS[preset] | {"options": PRESETS[preset]["options"] | options | change}
            )
        with pytest.raises(ValueError, match=f"differs in {next(iter(change))}$"):
            WRITERS[ending](model, tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".tar", ".gguf"])
def test_another_network_is_refused(ending, tmp_path):
    from deepvqe_hub.hub.writers import WRITERS

    with torch.device("meta"):
        model = EnhancementModel.from_config("dpcrn")
    with pytest.raises(ValueError, match="shapes of its weights"):
        WRITERS[ending](model, tmp_path / f"x{ending}")


# Conversion


def test_convert(seed_weights, tmp_path, capsys):
    from deepvqe_hub.cli import main

    torch.save({"model": streaming_names(seed_weights), "epoch": 3}, tmp_path / "x.tar")
    assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / "ours"), "--window", "hann"]) == 0
    report = capsys.readouterr().out
    assert "--license" in report and "license: unknown" in (tmp_path / "ours" / "README.md").read_text()
    assert "156 tensors mapped, 40 of them renamed" in report and "left out: epoch" in report and "'hann'" in report
    assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / "ours")]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back.tar")]) == 0
    assert same(load(tmp_path / "ours"), load(tmp_path / "back.tar"))
    assert "read it with --window hann --padding reflect" in capsys.readouterr().out
    written = (tmp_path / "back.tar").stat()
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back.tar")]) == 2
    assert "--force" in capsys.readouterr().err and (tmp_path / "back.tar").stat() == written
    for option in (["--half"], ["--name", "x"], ["--license", "mit"]):
        assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "x.tar"), "--force", *option]) == 2
        assert f"{option[0]} is for a checkpoint folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "x.gguf")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    torch.save({"model": {"foreign.key": torch.zeros(1)}}, tmp_path / "z.tar")
    assert main(["convert", str(tmp_path / "z.tar"), str(tmp_path / "z")]) == 2
    assert "foreign.key" in capsys.readouterr().err and not (tmp_path / "z").exists()


@pytest.mark.parametrize("name", ["new/deep/ours", "new/deep/x.tar"])
def test_a_conversion_that_fails_leaves_no_folders(seed_weights, tmp_path, capsys, monkeypatch, name):
    from deepvqe_hub.cli import main

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    torch.save({"model": seed_weights}, tmp_path / "x.tar")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / name)]) == 2
    assert "No space left" in capsys.readouterr().err and os.listdir(tmp_path) == ["x.tar"]
    assert main(["convert", str(tmp_path / "x.tar"), str(tmp_path / name)]) == 0
    assert (tmp_path / name).exists()
