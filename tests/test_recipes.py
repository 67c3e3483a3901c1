"""The recipes as a user runs them, on a corpus made here."""

import csv
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hub_server import HubServer, Repo
from huggingface_hub import ModelCard

import deepvqe_hub
from deepvqe_hub.data import EchoSpeech, NoisySpeech
from deepvqe_hub.data.manifests import write_manifests
from deepvqe_hub.data.settings import check_settings
from deepvqe_hub.losses import SpeechLoss
from deepvqe_hub.presets import PRESETS

pytest.importorskip("speechbrain")

from ruamel.yaml import YAML
from tiny import CONFIG as TINY

from deepvqe_hub.training import EchoBrain, EnhancementBrain, load_hparams, recipe
from deepvqe_hub.training import train as run_recipe
from deepvqe_hub.training.checkpoints import SafeCheckpointer
from deepvqe_hub.training.curve import read_log
from deepvqe_hub.training.hparams import merged
from deepvqe_hub.training.recipe import make_test_data

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
TIMEOUT = 1800  # seconds, for what hangs: a run takes ten of them alone, and many times that on a busy machine
FAREND = {"farend_channels": [2, 3], "align_hidden": 2, "dmax": 32}


@pytest.fixture(autouse=True)
def folder_of_the_run(tmp_path, monkeypatch):
    """Results folders are relative, and loading hparams makes them."""
    monkeypatch.chdir(tmp_path)


def command(recipe, *arguments, processes=1):
    """Command line and environment of `train.py`; settings that make it quick come last."""
    launch = [sys.executable]
    if processes > 1:
        # --standalone takes a free port and keeps it; by default its processes look up the name of the machine.
        launch += ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        launch += [f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return launch + ["train.py", *map(str, arguments), "--noprogressbar", "--device", "cpu"], {
        "cwd": RECIPES / recipe,
        "env": environment,
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }


def train(*arguments, **options):
    line, where = command(*arguments, **options)
    done = subprocess.run(line, **where, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def fails(*arguments):
    """The last line of what a run says that ends in an error."""
    line, where = command(*arguments)
    done = subprocess.run(line, **where, timeout=TIMEOUT)
    assert done.returncode == 1
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Options of a run that takes seconds; the preset is a config file of a tiny model."""
    config = tmp_path_factory.mktemp("config") / "tiny.json"
    config.write_text(json.dumps(TINY))
    # Plain gradient descent: AdamW turns rounding errors of vanishing gradients into steps of full length.
    descent = "!name:torch.optim.SGD {lr: 0.001}"
    return ["hparams/deepvqe_s_mini.yaml", "--preset", config, "--segment_seconds", 0.7, "--opt_class", descent]


@pytest.fixture(scope="session")
def single(corpus, tiny, tmp_path_factory):
    """The output folder of a finished run in one process, with batches of four."""
    out = tmp_path_factory.mktemp("single")
    options = ["--batch_size", 4, "--ckpt_interval_minutes", 7, "--loss", "{sisdr_weight:\n  0.5}"]
    said = train("DNS3", *tiny, "--data_folder", corpus, "--output_folder", out, *options)
    assert f"deepvqe enhance noisy.wav --model {out / 'model'}" in said
    return out


def validation(out):
    """Validation loss and SI-SDR of the last checkpoint, in full precision."""
    meta = SafeCheckpointer(out / "save").find_checkpoint().meta
    return meta["loss"], meta["si_sdr"]


def train_loss(out):
    return read_log(out / "train_log.txt")[-1]["train loss"]


def test_run_from_folder_to_checkpoint(single):
    assert (single / "manifests/broken.txt").read_text().strip().endswith("broken.wav")
    *epochs, test = (single / "train_log.txt").read_text().splitlines()
    assert len(epochs) == 2 and re.match(r"Epoch loaded: [12] - test loss: .*, test si_sdr: ", test)
    model = deepvqe_hub.load(single / "model")
    noisy = torch.randn(8000) * 0.1
    assert model(noisy).shape == noisy.shape
    card = (single / "model/README.md").read_text()
    assert "optimiser steps on" in card and "SI-SDR" in card and "Limits" in card
    assert "| Validation mixtures of the run |" in card and "| Test mixtures of the run |" in card
    saved = torch.load(SafeCheckpointer(single / "save").find_checkpoint(min_key="loss").paramfiles["average"])
    assert torch.equal(saved["module.network.bottle.fc.weight"], model.network.bottle.fc.weight)
    hparams, _ = load_hparams(single / "hyperparams.yaml")  # what was run, in one file that can be run
    assert hparams["ckpt_interval_minutes"] == 7  # though SpeechBrain takes this option for itself


def test_two_processes_validate_as_one(corpus, tiny, single, tmp_path):
    """Two processes with batches of two: the same items a step, one batch norm, the mean gradient, one validation."""
    data = ["--data_folder", corpus, "--output_folder", tmp_path, "--batch_size", 2, "--tensorboard", "True"]
    train("DNS3", *tiny, *data, "--distributed_backend", "gloo", processes=2)
    assert validation(tmp_path) == pytest.approx(validation(single), rel=1e-5)
    assert len((tmp_path / "train_log.txt").read_text().splitlines()) == 3  # written by one process
    assert train_loss(tmp_path) == pytest.approx(train_loss(single), rel=1e-3)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert deepvqe_hub.load(tmp_path / "model").sample_rate == 16000 and (tmp_path / "train.py").is_file()


def test_a_larger_network_grows_out_of_a_trained_one_on_the_hub(corpus, tiny, single, tmp_path, monkeypatch):
    """By a level, which takes a batch as example; every process has the same weights then."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    config = {"channels": [5, 8, 8, 14], "decoder_channels": [12, 8, 6], "hidden": 9}
    config |= {"encoder_residual": [False] * 4, "decoder_residual": [True] * 4}
    (tmp_path / "larger.json").write_text(json.dumps({"network": "DeepVQE", "options": config}))
    small, name, out = single / "model", "someone/tiny@v1", tmp_path / "larger"
    still = ["--opt_class", "!name:torch.optim.SGD {lr: 0.0}", "--lr", 0, "--number_of_epochs", 1]
    options = [tiny[0], "--data_folder", corpus, "--segment_seconds", 0.7, *still]
    grown = [*options, "--preset", tmp_path / "larger.json", "--init_from", name, "--output_folder", out]
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repos["someone/tiny"] = Repo()
        server.repos["someone/tiny"].commit({path.name: path.read_bytes() for path in small.iterdir()}, "v1")
        said = train("DNS3", *grown, "--distributed_backend", "gloo", processes=2)
    assert re.search(r"grown from \d+ to \d+ weights", said)
    source, model = deepvqe_hub.load(small), deepvqe_hub.load(out / "model")
    assert torch.equal(model.network.enblock2.conv.weight[:6, :4], source.network.enblock2.conv.weight)
    said = train("DNS3", *grown, "--init_from", "deepvqe-s")  # the run is finished, so this changes nothing
    assert "init_from deepvqe-s is not used" in said
    card = ModelCard.load(out / "model/README.md")
    assert card.data.base_model == "someone/tiny" and f"starting from the weights of {name} (" in card.text

    back = [
        *options,
        "--preset",
        small / "config.json",
        "--init_from",
        out / "model",
        "--output_folder",
        tmp_path / "no",
    ]
    assert fails("DNS3", *back).startswith("ValueError: init_from")
    assert not (tmp_path / "no/manifests").exists()


def test_a_finished_run_is_tested_again_and_nothing_else(single, tmp_path):
    """With the saved file and another output folder; the best checkpoint is tested, and not a later one."""
    shutil.copytree(single / "save", tmp_path / "save")
    later = shutil.copytree(max((single / "save").glob("CKPT+*")), tmp_path / "save/CKPT+2100-01-01+00-00-00+00")
    meta = yaml.safe_load((later / "CKPT.yaml").read_text())
    (later / "CKPT.yaml").write_text(yaml.dump(meta | {"loss": meta["loss"] + 1, "unixtime": meta["unixtime"] + 1e6}))
    worse = {name: value * 0.5 for name, value in torch.load(later / "average.ckpt", weights_only=True).items()}
    torch.save(worse, later / "average.ckpt")
    train("DNS3", single / "hyperparams.yaml", "--output_folder", tmp_path, "--test_only")
    assert (tmp_path / "train_log.txt").read_text() == (single / "train_log.txt").read_text().splitlines(True)[-1]
    assert not (tmp_path / "model").exists() and not (tmp_path / "hyperparams.yaml").exists()
    said = fails("DNS3", single / "hyperparams.yaml", "--output_folder", tmp_path / "none", "--test_only")
    assert "none/save holds no finished epoch" in said


def test_debug_leaves_a_run_as_it_is(corpus, tiny, tmp_path):
    train("DNS3", *tiny, "--data_folder", corpus, "--output_folder", tmp_path, "--debug", "--tensorboard", "True")
    assert {path.name for path in tmp_path.iterdir()} <= {"env.log", "log.txt", "recipe.py", "save", "manifests"}
    assert not list((tmp_path / "save").iterdir())


def test_a_bottleneck_does_not_go_on_in_the_folder_of_an_ordinary_run(corpus, tiny, single):
    options = ["--init_from", single / "model", "--bottleneck_only", "True", "--chain", 2, "--segment_seconds", 0.64]
    said = fails("DNS3", *tiny, "--data_folder", corpus, "--output_folder", single, "--batch_size", 4, *options)
    assert said.startswith(f"ValueError: --bottleneck_only: {single} holds a run with another value of it")


def test_another_network_leaves_a_run_as_it_is(corpus, tiny, single):
    before = (single / "hyperparams.yaml").read_bytes()
    options = ["--data_folder", corpus, "--output_folder", single, "--preset", "dpcrn-light"]
    said = fails("DNS3", *tiny, *options)
    assert said.startswith(f"ValueError: --preset dpcrn-light: {single} holds a run of another network")
    assert (single / "hyperparams.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("recipe", "options", "word"),
    [
        ("DNS3", ["--preset", "deepvqe-aec-s"], "--preset deepvqe-aec-s takes a far end.*deepvqe-s"),
        ("AEC", ["--preset", "deepvqe-s"], "--preset deepvqe-s takes no far end.*deepvqe-aec-s"),
        ("AEC", ["--mixing", "{serdb: [0, 1]}"], "--mixing: EchoSpeech has no setting serdb; did you mean ser_db"),
        ("DNS3", ["--mixing", "{snr_db: 5}"], "--mixing: snr_db must be two numbers.*got 5"),
        ("DNS3", ["--mixing", "{snr_db: [5, 0]}"], "--mixing: snr_db must be two numbers"),
        ("DNS3", ["--mixing", "{room_p: 50}"], "--mixing: room_p must be a chance"),
        ("DNS3", ["--mixing", "{noises: many}"], "--mixing: noises must be a whole number"),
        ("DNS3", ["--mixing", "{speed: [0, 1]}"], "--mixing: speed and noise_speed must be above 0"),
        ("AEC", ["--mixing", "{far_only_p: 0.6, near_only_p: 0.5}"], "--mixing: far_only_p .* must not pass 1"),
        ("DNS3", ["--mixing", "{size: 5}"], "--mixing: NoisySpeech has no setting size"),
        ("DNS3", ["--chain", "3"], "--chain 3 must divide batch_size"),
        ("AEC", ["--chain", "2", "--batch_size", "2", "--segment_seconds", "1.01"], r"whole frames \(256 samples\)"),
        ("DNS3", ["--bottleneck_only", "True"], "--bottleneck_only: it is for trained weights"),
        ("DNS3", ["--bottleneck_only", "True", "--preset", "dpcrn"], "--bottleneck_only: it is for DeepVQE"),
        ("DNS3", ["--bottleneck_only", "True", "--init_from", "x", "--chain", "1"], "give --chain 2 or more"),
        ("DNS3", ["--bottleneck_only", "True", "--init_from", "x", "--segment_seconds", "1.01"], "whole frames"),
        ("DNS3", ["--chain", "0"], "--chain must be a whole number, 1 or more, not 0"),
        ("DNS3", ["--batch_size", "abc"], "--batch_size must be a whole number"),
        ("DNS3", ["--valid_items", "0"], "--valid_items must be a whole number"),
        ("DNS3", ["--test_items", "-3"], "--test_items must be a whole number, 0 or more, not -3"),
        ("DNS3", ["--ema_decay", "-1"], "--ema_decay must be 0 or more and below 1, not -1"),
        ("DNS3", ["--ema_decay", "1"], "--ema_decay must be 0 or more and below 1, not 1"),
        ("DNS3", ["--ema_decay", "2"], "--ema_decay must be 0 or more and below 1, not 2"),
        ("DNS3", ["--number_of_epochs", "0"], "--number_of_epochs must be a whole number"),
        ("DNS3", ["--minutes", "-1"], "--minutes must be a number, 0 or more, not -1"),
        ("DNS3", ["--test_metrics", "[pesk]"], "unknown metric 'pesk'"),
        ("AEC", ["--valid_metrics", "[erle]"], "--valid_metrics: ERLE is of scenes"),
        ("AEC", ["--recordings_folder", "nowhere"], "--recordings_folder nowhere: no such folder"),
        ("DNS3", ["--segment_seconds", "0.3", "--loss", "{stoi_weight: 1.0}"], "--segment_seconds 0.3: the loss"),
    ],
)
def test_wrong_options_are_named_before_the_data_are_prepared(recipe, options, word, tmp_path):
    brain, data = {"DNS3": (EnhancementBrain, NoisySpeech), "AEC": (EchoBrain, EchoSpeech)}[recipe]
    file = RECIPES / recipe / "hparams" / {"DNS3": "deepvqe_s_mini.yaml", "AEC": "deepvqe_aec_s_mini.yaml"}[recipe]
    with pytest.raises(ValueError, match=word):
        run_recipe([str(file), "--data_folder", "x", "--output_folder", str(tmp_path), *options], None, brain, data)


def test_without_material_there_is_no_test(corpus, tmp_path, caplog):
    hparams, _ = load_hparams(RECIPES / "DNS3/hparams/deepvqe_s_mini.yaml", "data_folder: x")
    folder = write_manifests(corpus, tmp_path)
    assert len(make_test_data(hparams, folder, NoisySpeech)) == 4
    (folder / "test_noise.json").unlink()
    assert make_test_data(hparams, folder, NoisySpeech) is None and "no test at the end" in caplog.text
    hparams["test_items"] = 0
    assert make_test_data(hparams, folder, NoisySpeech) is None


def test_settings_reach_the_material(corpus, tmp_path, monkeypatch):
    """Of the pools and of how they are mixed, the same for all splits, but that each draws by a seed of its own."""
    overrides = "data_folder: x\nspeaker_balance: 0.25\nmixing: {snr_db: [3, 4]}"
    hparams, _ = load_hparams(RECIPES / "DNS3/hparams/deepvqe_s_mini.yaml", overrides)
    folder, given, read, splits = write_manifests(corpus, tmp_path), [], recipe.read_pools, []

    def read_pools(folder, split, **options):
        given.append((split, options["balance"]))
        return read(folder, split, **options)

    monkeypatch.setattr(recipe, "read_pools", read_pools)
    brain = SimpleNamespace(fit=lambda counter, *data, **loaders: splits.extend(data))
    recipe.fit(brain, hparams, folder, NoisySpeech, lambda hparams, data: data, None)
    splits.append(make_test_data(hparams, folder, NoisySpeech))
    assert given == [("train", 0.25), ("valid", 0.25), ("test", 0.25)]
    sizes = [hparams[name] for name in ("items_per_epoch", "valid_items", "test_items")]
    assert [len(data) for data in splits] == sizes and len(set(sizes)) > 1
    assert [data.seed - hparams["seed"] for data in splits] == [0, 1, 2]
    assert all(data.snr_db == [3, 4] for data in splits)


@pytest.mark.slow
def test_killed_run_ends_where_an_uninterrupted_one_does(corpus, tiny, single, tmp_path):
    data = ["--data_folder", corpus, "--output_folder", tmp_path, "--batch_size", 4]
    line, where = command("DNS3", *tiny, *data, "--ckpt_interval_steps", 1, "--ckpt_interval_minutes", 0)
    process = subprocess.Popen(line, **where)
    while not list((tmp_path / "save").glob("CKPT*")):
        time.sleep(0.01)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "model").exists()
    train("DNS3", *tiny, *data)
    assert validation(tmp_path) == validation(single)


@pytest.mark.slow
def test_echo_recipe(corpus, tmp_path):
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps({**TINY, "options": TINY["options"] | FAREND}))
    for folder in ("nearend_mic_signal", "farend_speech", "nearend_speech"):
        (tmp_path / "recordings" / folder).mkdir(parents=True)
        for number in range(3):
            wave = np.random.default_rng(number).standard_normal(32000) * 0.1
            soundfile.write(tmp_path / "recordings" / folder / f"x_fileid_{number}.wav", wave, 16000)
    arguments = ["--preset", config, "--data_folder", corpus, "--output_folder", tmp_path / "out"]
    arguments += ["--recordings_folder", tmp_path / "recordings", "--recordings_portion", 0.5, "--precision", "bf16"]
    train("AEC", "hparams/deepvqe_aec_s_mini.yaml", *arguments, "--segment_seconds", 4.48)
    assert "delay_hits" in (tmp_path / "out/train_log.txt").read_text()
    assert " hours of audio, 50% of it mixed beforehand (" in (tmp_path / "out/model/README.md").read_text()
    assert "\nprecision: bf16" in (tmp_path / "out/hyperparams.yaml").read_text()  # though it is SpeechBrain's option
    model = deepvqe_hub.load(tmp_path / "out/model")
    assert model.farend and model(torch.randn(8000), torch.randn(8000)).shape == (8000,)


def test_missing_folder_is_named(tiny, tmp_path):
    said = fails("DNS3", *tiny, "--data_folder", tmp_path / "nowhere", "--output_folder", tmp_path / "out")
    assert str(tmp_path / "nowhere") in said


@pytest.mark.parametrize(("recipe", "preset"), [("DNS3", "deepvqe_s"), ("AEC", "deepvqe_aec_s")])
def test_options_in_the_readme_are_options(recipe, preset):
    file, readme = RECIPES / recipe / "hparams" / f"{preset}.yaml", (RECIPES / recipe / "README.md").read_text()
    options = re.findall(r'`--(mixing|loss) "(.*?)"`', readme)
    assert {name for name, _ in options} == {"mixing", "loss"}
    kinds = {"mixing": {"DNS3": NoisySpeech, "AEC": EchoSpeech}[recipe], "loss": SpeechLoss}
    for name, value in options:
        after = load_hparams(file, f"data_folder: x\n{name}: {value}")[0][name]
        settings = YAML().load(value)
        if name == "mixing":
            check_settings(kinds[name], settings)
        else:
            assert settings.keys() <= inspect.signature(kinds[name]).parameters.keys()
        for setting, wanted in settings.items():
            assert (after[setting] if name == "mixing" else getattr(after, setting)) == wanted


def test_a_saved_file_is_overridden_like_any_other(tmp_path):
    """Folders follow the output folder and the optimizer the rate, as in the file that was run."""
    _, text = load_hparams(
        RECIPES / "DNS3/hparams/deepvqe_s_laptop.yaml", "data_folder: x\noutput_folder: old\nlr: 0.5"
    )
    (tmp_path / "hyperparams.yaml").write_text(text)
    again, same = load_hparams(tmp_path / "hyperparams.yaml")
    assert same == text and again["save_folder"] == "old/save" and again["lr_schedule"].peak == 0.5
    changed, _ = load_hparams(tmp_path / "hyperparams.yaml", "output_folder: new\nlr: 0.25")
    assert changed["lr_schedule"].peak == 0.25
    assert changed["opt_class"]([torch.zeros(1, requires_grad=True)]).defaults["lr"] == 0.25
    folders = [changed[name] for name in ("save_folder", "manifest_folder", "model_folder")]
    assert folders == ["new/save", "new/manifests", "new/model"]
    assert "old" not in changed["train_logger"].save_file and "old" not in str(changed["checkpointer"].checkpoints_dir)


def test_files_build_on_each_other():
    mini, base = (
        load_hparams(RECIPES / "DNS3/hparams" / name, "data_folder: x")[0]
        for name in ("deepvqe_s_mini.yaml", "deepvqe_s.yaml")
    )
    assert mini["preset"] == base["preset"] == "deepvqe-s"
    assert mini["number_of_epochs"] == 2 and mini["epoch_counter"].limit == 2
    assert mini["lr"] == base["lr"] and mini["output_folder"] == "results/deepvqe-s-mini/1234"


def rows():
    """The table of recipes, in the columns of SpeechBrain's."""
    for table in sorted((ROOT / "tests/recipes").glob("*.csv")):
        with table.open(newline="") as file:
            yield from csv.DictReader(file)


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row["Hparam_file"])
def test_table_of_recipes(row):
    """Every file of the table is there, and the settings describe objects (but for a network still to come)."""
    for column in ("Script_file", "Hparam_file", "Data_prep_file", "Readme_file"):
        assert (ROOT / row[column]).is_file(), row[column]
    text = merged(ROOT / row["Hparam_file"], "data_folder: x")
    preset = next(line.split()[1] for line in text.splitlines() if line.startswith("preset:"))
    if preset in PRESETS:
        hparams, _ = load_hparams(ROOT / row["Hparam_file"], "data_folder: x")
        assert hparams["loss"](torch.zeros(1, 1600), torch.zeros(1, 1600)) < 1e-9


def test_table_of_recipes_is_complete():
    files = {path.relative_to(ROOT).as_posix() for path in RECIPES.glob("*/hparams/*.yaml")}
    parts = {path for path in files if Path(path).stem in ("base", "mini", "laptop")}
    assert files - parts == {row["Hparam_file"] for row in rows()}


def test_sample_rate_must_be_the_model_s(corpus, tmp_path):
    arguments, options = command(
        "DNS3",
        "hparams/deepvqe_s_mini.yaml",
        "--data_folder",
        corpus,
        "--output_folder",
        tmp_path,
        "--sample_rate",
        8000,
    )
    run = subprocess.run(arguments, **options)
    assert run.returncode and "sample_rate is 8000 Hz and the preset's 16000 Hz" in run.stdout


@pytest.mark.parametrize("recipe", ["DNS3", "AEC"])
def test_requirements_are_those_of_the_extra(recipe):
    project = pytest.importorskip("tomllib").loads((RECIPES.parent / "pyproject.toml").read_text())["project"]
    wanted, extras = {next(line for line in project["dependencies"] if line.startswith("torch"))}, ["train"]
    while extras:
        for line in project["optional-dependencies"][extras.pop()]:
            inner = re.match(r"deepvqe-hub\[(.*)\]", line)
            extras += inner[1].split(",") if inner else []
            wanted |= set() if inner else {line}
    lines = (RECIPES / recipe / "extra_requirements.txt").read_text().splitlines()
    assert {line.split("#")[0].strip() for line in lines if not line.startswith("#")} == wanted
