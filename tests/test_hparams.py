"""Hyperparameter files that build on each other, and command lines that change them."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("speechbrain")

from ruamel.yaml import YAML

from deepvqe_hub.training.hparams import load_hparams, merged, parse

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


@pytest.fixture(autouse=True)
def folder_of_the_run(tmp_path, monkeypatch):
    """Results folders are relative, and loading hparams makes them."""
    monkeypatch.chdir(tmp_path)


def test_settings_left_out_or_misspelt_are_named():
    with pytest.raises(ValueError, match=r"data_folder is not set.*--data_folder VALUE"):
        merged(RECIPES / "DNS3/hparams/deepvqe_s.yaml")
    with pytest.raises(ValueError, match="did you mean --batch_size"):
        merged(RECIPES / "DNS3/hparams/deepvqe_s.yaml", "batchsize: 3")
    with pytest.raises(ValueError, match="preset is not set"):
        merged(RECIPES / "AEC/hparams/base.yaml", "data_folder: x")
    with pytest.raises(ValueError, match="--freeze_norms needs a value"):
        merged(RECIPES / "DNS3/hparams/deepvqe_s.yaml", "data_folder: x\nfreeze_norms:")
    with pytest.raises(FileNotFoundError, match=r"hparams/none\.yaml"):
        merged("hparams/none.yaml")


def test_a_preset_that_is_written_out_does_not_name_the_run(tmp_path):
    parent = RECIPES / "DNS3/hparams/deepvqe_s_laptop.yaml"
    (tmp_path / "own.yaml").write_text(f"extends: {parent}\npreset: {{options: {{hidden: 8}}}}\ndata_folder: x\n")
    with pytest.raises(ValueError, match=r"run_name is not set.*--run_name NAME"):
        merged(tmp_path / "own.yaml")
    assert "\nrun_name: narrow\n" in merged(tmp_path / "own.yaml", "run_name: narrow")


def test_one_interval_of_checkpoints_replaces_the_other(tmp_path):
    path, yaml = RECIPES / "DNS3/hparams/deepvqe_s.yaml", YAML()
    intervals = ("ckpt_interval_minutes", "ckpt_interval_steps")
    for words, expected in {
        "--ckpt_interval_steps 2": (0, 2),
        "--ckpt_interval_minutes 3": (3, 0),
        "--ckpt_interval_steps 2 --ckpt_interval_minutes 0": (0, 2),
        "--ckpt_interval_steps 0": (10, None),
    }.items():
        _, options, overrides = parse([str(path), "--data_folder", "x", *words.split()])
        given = {name: options[name] for name in options.overridden_args}
        tree = yaml.load(merged(path, overrides, given))
        assert tuple(map(tree.get, intervals)) == expected
    assert "ckpt_interval_steps" not in yaml.load(merged(path, "data_folder: x"))


def test_command_lines_are_read_as_they_are_meant():
    words = "x.yaml --data_folder /a=b/c --batch_size=3 --skip_nonfinite_grads False --loss {pesq_weight: 3.0}"
    file, run_options, overrides = parse([*words.split(), "--compile", "True", "--debug", "--device=cpu", "--cache"])
    assert file == "x.yaml" and run_options.compile and run_options.debug and run_options.device == "cpu"
    assert not run_options.skip_nonfinite_grads
    assert run_options.overridden_args == {"skip_nonfinite_grads", "compile", "debug", "device"}
    settings = {"data_folder": "/a=b/c", "batch_size": 3, "loss": {"pesq_weight": 3.0}, "cache": None}
    assert YAML().load(overrides) == settings
    text = merged(RECIPES / "DNS3/hparams/deepvqe_s.yaml", "data_folder: x", {"skip_nonfinite_grads": False})
    assert "\nskip_nonfinite_grads: false" in text


def test_folders_and_names_are_no_yaml():
    folders = {"data_folder": "/data/dns #2: new", "output_folder": "2024", "run_name": "007", "init_from": "1e3"}
    words = [word for name, value in folders.items() for word in (f"--{name}", value)]
    file, _, overrides = parse([str(RECIPES / "DNS3/hparams/deepvqe_s.yaml"), *words])
    hparams = load_hparams(file, overrides)[0]
    assert {name: hparams[name] for name in folders} == folders and hparams["save_folder"] == "2024/save"
    _, _, overrides = parse(["x.yaml", "--init_from", "null", "--model_folder", "!ref <output_folder>/m"])
    changes = YAML().load(overrides)
    assert changes["init_from"] is None and changes["model_folder"].tag.value == "!ref"


def test_the_saved_file_has_what_speechbrain_was_told():
    text = merged(RECIPES / "DNS3/hparams/deepvqe_s.yaml", "data_folder: x", {"precision": "bf16", "debug": True})
    assert "precision: bf16" in text and "debug" not in text


def test_another_class_brings_its_own_arguments():
    path, change = RECIPES / "DNS3/hparams/deepvqe_s.yaml", "data_folder: x\nopt_class: !name:torch.optim.SGD {lr: 0.5}"
    optimiser = load_hparams(path, change)[0]["opt_class"]([torch.zeros(1, requires_grad=True)])
    assert type(optimiser) is torch.optim.SGD and optimiser.defaults["lr"] == 0.5
    assert load_hparams(path, "data_folder: x\nloss: {silence_weight: 0.5}")[0]["loss"].complex_weight == 30
