"""What prepares the data of the recipes: manifests, shards, noise out of effects, and fixed test sets."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from deepvqe_hub.data import NoisySpeech, manifests
from deepvqe_hub.data.manifests import read_pools, write_manifests
from deepvqe_hub.data.mixing import active_power

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"


def test_splits_share_no_reader_no_noise_no_room(corpus, tmp_path):
    write_manifests(corpus, tmp_path)
    seen = {}
    for split in ("train", "valid", "test"):
        for kind, name in (("speech", "reader"), ("noise", "door"), ("rooms", "Room")):
            manifest = json.loads((tmp_path / f"{split}_{kind}.json").read_text())
            assert manifest
            for entry in manifest.values():
                assert name in entry["speaker"]
                assert seen.setdefault(entry["speaker"], split) == split
    assert len(seen) == 8 + 6 + 4


def test_given_splits_are_kept_and_a_missing_one_is_taken_from_train(corpus, tmp_path):
    root = tmp_path / "data"
    for kind, files in (("clean", corpus.glob("clean/*/*_0.wav")), ("noise", corpus.glob("noise/*.wav"))):
        for number, file in enumerate(sorted(files)):
            folder = root / kind / ("train" if number < 4 else "test")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).symlink_to(file)
    write_manifests(root, tmp_path / "out")
    names = {
        split: {key.split("/")[0] for key in json.loads((tmp_path / f"out/{split}_speech.json").read_text())}
        for split in ("train", "valid", "test")
    }
    assert names == {"train": {"train"}, "valid": {"train"}, "test": {"test"}}


def test_splits_have_their_shares():
    splits = Counter(manifests._assign([f"speaker {number}" for number in range(2000)], 0.1, 0.2).values())
    assert [splits[split] / 2000 for split in ("valid", "test", "train")] == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_manifests_follow_the_folder(corpus, tmp_path, caplog):
    caplog.set_level("INFO")
    root = tmp_path / "data"
    for kind in ("clean", "noise"):
        (root / kind).mkdir(parents=True)
        for number, file in enumerate(sorted((corpus / kind).rglob("*.wav"))):
            (root / kind / f"{kind}{number}.wav").symlink_to(file)
    write_manifests(root, tmp_path / "out")
    assert "without reverberation" in caplog.text
    stamp = (tmp_path / "out/train_noise.json").stat().st_mtime_ns
    write_manifests(root, tmp_path / "out")
    assert "up to date" in caplog.text and (tmp_path / "out/train_noise.json").stat().st_mtime_ns == stamp
    (root / "noise/noise9.wav").symlink_to(corpus / "noise/door_0.wav")
    write_manifests(root, tmp_path / "out")
    write_manifests(corpus, tmp_path / "out")
    write_manifests(root, tmp_path / "out", shards=True)
    assert read_pools(tmp_path / "out", "train")[2] is None, "rooms of before, in a manifest"
    assert "made with other files and contents" in caplog.text and "made with other data_folder" in caplog.text


@pytest.mark.parametrize(
    ("present", "error", "word"),
    [
        ([], FileNotFoundError, "clean"),
        (["clean"], FileNotFoundError, "noise.*DNS-Challenge"),
        (["clean", "noise"], ValueError, "noise gives no valid files"),
        (["clean", "empty"], ValueError, "no audio files"),
    ],
)
def test_preparation_says_what_is_missing(corpus, tmp_path, present, error, word):
    root = tmp_path / "data"
    root.mkdir()
    for kind in present:
        (root / kind.replace("empty", "noise")).mkdir()
    for number, file in enumerate(corpus.glob("clean/*/*_0.wav")):
        if "clean" in present:
            (root / f"clean/{number}.wav").symlink_to(file)
    if "noise" in present:
        (root / "noise/only.wav").symlink_to(corpus / "noise/door_0.wav")
    with pytest.raises(error, match=word):
        write_manifests(root, tmp_path / "out")


def test_shards_give_the_same_items_and_can_be_moved(corpus, tmp_path):
    write_manifests(corpus, tmp_path / "json")
    write_manifests(corpus, tmp_path / "packed", shards=True)
    (tmp_path / "packed").rename(tmp_path / "moved")
    assert not list((tmp_path / "moved").glob("*_speech.json"))
    folders = [write_manifests(tmp_path / name, tmp_path / "unused") for name in ("json", "moved")]
    assert not (tmp_path / "unused").exists()
    one, other = (
        NoisySpeech(*read_pools(folder, "train", balance=0.5), segment_seconds=0.5, room_p=1.0) for folder in folders
    )
    for index in range(4):
        for name, value in one[index].items():
            assert torch.equal(value, other[index][name]), name


def test_effects_become_noise_without_speech(tmp_path):
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)

    def write(name, seconds, rate=22050):
        path = tmp_path / "game" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * rate)), rate)

    write("ambient/buffers/wind.wav", 65)
    write("music/wind.wav", 5)
    write("broken.wav", 0)
    for k in range(4):
        write(f"hits/{k}.ogg", 0.3)
    run = [sys.executable, "effects_prepare.py", tmp_path / "game", "--out", tmp_path / "noise"]
    options = {"cwd": RECIPES / "DNS3", "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    assert "1.6 minutes" in subprocess.run(run, check=True, stdout=subprocess.PIPE, **options).stdout
    durations = {path.name: soundfile.info(path).duration for path in (tmp_path / "noise" / "game").iterdir()}
    assert durations == {"000_wind.flac": 60, "001_wind.flac": pytest.approx(5, abs=0.1), "002_effects.flac": 30}
    before = sorted((tmp_path / "noise").rglob("*"))
    assert "stays as it is" in subprocess.run(run, check=True, stdout=subprocess.PIPE, **options).stdout
    assert sorted((tmp_path / "noise").rglob("*")) == before


def test_pauses_of_a_recording_are_no_noise(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(str(RECIPES / "DNS3"))
    import effects_prepare

    wind = 0.1 * np.random.default_rng(0).standard_normal(60 * 16000) + 0.01
    soundfile.write(tmp_path / "wind.wav", np.concatenate([wind, np.zeros_like(wind), wind]), 16000)
    kept = [audio for _, audio in effects_prepare.parts(tmp_path, "nothing", 20)]
    assert len(kept) == 2 and all(np.isfinite(audio).all() for audio in kept)


def test_a_test_set_is_written_whole_and_can_be_evaluated(corpus, tmp_path, capsys):
    out = tmp_path / "sets" / "testset"
    write_manifests(corpus, tmp_path / "prepared")
    run = [
        sys.executable,
        "testset_prepare.py",
        tmp_path / "prepared",
        out,
        "--items",
        "3",
        "--seconds",
        "1.5",
        "--snr",
        "0",
        "5",
    ]
    options = {"cwd": RECIPES / "DNS3", "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    none = subprocess.run(["0" if part == "3" else part for part in run], stderr=subprocess.PIPE, **options)
    assert none.returncode == 2 and "--items must be at least 1, got 0" in none.stderr
    subprocess.run(run, check=True, **options)
    assert list(out.parent.iterdir()) == [out]
    names = ["0000.flac", "0001.flac", "0002.flac"]
    noisy, clean = ([soundfile.read(out / kind / name)[0] for name in names] for kind in ("noisy", "clean"))
    assert all(len(wave) == 24000 and wave.std() > 0 for wave in noisy + clean)
    rows = list(csv.DictReader((out / "meta.csv").open()))
    assert [row["file"] for row in rows] == names and {row["room"] for row in rows} <= {"yes", "no"}
    assert "no" in {row["room"] for row in rows}  # where the noise is what is left without the target
    for row, mixture, target in zip(rows, noisy, clean):
        if row["room"] == "no":
            speech, noise = (active_power(torch.from_numpy(wave)) for wave in (target, mixture - target))
            assert 0 <= float(row["snr_db"]) <= 5
            assert float(10 * torch.log10(speech / noise)) == pytest.approx(float(row["snr_db"]), abs=0.3)
    from deepvqe_hub.cli import main

    arguments = ["--metadata", out / "meta.csv", "--metrics", "si_sdr", "--jobs", "1", "--quiet"]
    assert main(["evaluate", *map(str, [out / "noisy", "--reference", out / "clean", *arguments])]) == 0
    assert "room" in capsys.readouterr().out
    before = (out / "meta.csv").read_bytes()
    for folder in (corpus, tmp_path):  # without a split, without anything
        wrong = subprocess.run([*run[:2], folder, tmp_path / "other"], capture_output=True, **options)
        assert wrong.returncode == 2 and f"no material in {folder}" in wrong.stderr
    assert not (tmp_path / "other").exists()
    again = subprocess.run(run, capture_output=True, **options)
    assert again.returncode == 2 and "stays as it is" in again.stderr
    assert (out / "meta.csv").read_bytes() == before


def test_fixed_echo_scenes_are_what_their_table_says(corpus, tmp_path):
    out = tmp_path / "testset"
    run = [sys.executable, "testset_prepare.py", corpus, out, "--items", "6", "--seconds", "2"]
    options = {"cwd": RECIPES / "AEC", "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    for split in ("clean", "noise"):
        shutil.copytree(corpus / split, tmp_path / "material" / split / "test")
    run[2] = tmp_path / "material"
    for wrong, words in (
        (["--snr", "9", "3"], "--snr takes the lower end first, got 9 3"),
        (["--seconds", "0"], "segment_"),
    ):
        refused = subprocess.run([*run, *wrong], stderr=subprocess.PIPE, text=True, **options)
        assert refused.returncode == 2 and f"error: {words}" in refused.stderr and not out.exists()
    subprocess.run(run, check=True, **options)
    rows = list(csv.DictReader((out / "meta.csv").open()))
    kinds = ["farend_single_talk", "nearend_single_talk", "double_talk"]
    assert [row["kind"] for row in rows] == 2 * kinds
    for row in rows:
        mic, far, near = (soundfile.read(out / kind / row["file"])[0] for kind in ("mic", "farend", "nearend"))
        assert len(mic) == len(far) == len(near) == 32000 and mic.std() > 0
        assert (near.std() > 0) == (row["kind"] != "farend_single_talk")
        assert bool(row["delay_ms"]) == (row["kind"] != "nearend_single_talk")
        assert bool(row["ser_db"]) == (row["kind"] == "double_talk")
        if row["kind"] == "farend_single_talk":  # the echo is where the table says
            correlation = np.correlate(mic, far, "full")[len(far) - 1 :]
            assert abs(correlation).argmax() / 16 == pytest.approx(float(row["delay_ms"]), abs=10)
