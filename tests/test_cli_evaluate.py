"""`deepvqe evaluate`: pairing, conditions, comparison with the input, files written whole or not at all."""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import deepvqe_hub
from deepvqe_hub import metrics
from deepvqe_hub.atomic import write_files
from deepvqe_hub.cli import CommandError, evaluate
from deepvqe_hub.metrics import evaluation, mos, report
from deepvqe_hub.metrics.metadata import Metadata, _labels, parse_talk
from deepvqe_hub.pairing import find_audio, find_pairs, pair_files

RATE = 16000
SNRS = [0, 5, 10, 15, 20, 25]


def tone(seed: int, seconds: float = 0.5) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 0.1 * random.standard_normal(int(seconds * RATE))


@pytest.fixture
def corpus(tmp_path):
    """clean/ and noisy/ with a subfolder, SNR known exactly, and meta.csv."""
    lines = ["id,snr_db,room,talker"]
    for index, snr in enumerate(SNRS):
        name = f"{'deep/' * (index % 2)}{index:02d}"
        clean = tone(index)
        noise = tone(100 + index)
        noise -= clean * (noise @ clean) / (clean @ clean)  # orthogonal, so that SI-SDR is the SNR
        noise *= np.sqrt(clean @ clean / (noise @ noise)) * 10 ** (-snr / 20)
        for folder, wav in (("clean", clean), ("noisy", clean + noise)):
            path = tmp_path / folder / f"{name}.{'flac' if folder == 'clean' else 'wav'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wav, RATE, subtype="PCM_24")
        lines.append(f"{index:02d},{snr},{'office' if index < 4 else ''},p{index}")
    (tmp_path / "meta.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(*arguments) -> int:
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    return evaluate.run(parser.parse_args([*map(str, arguments), "--jobs", "1", "--quiet"]))


def test_scores_are_printed_and_written(corpus, capsys):
    outputs = corpus / "scores.csv", corpus / "scores.json"
    status = run(
        *(corpus / "noisy", "--reference", corpus / "clean", "--metrics", "si_sdr", "--markdown"),
        *("--metadata", corpus / "meta.csv", "--bins", 2, "-o", outputs[0], "--json", outputs[1]),
    )
    assert status == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].replace(" ", "") == "|metric|files|mean|95%interval|median|"
    assert lines[2].replace(" ", "").startswith("|SI-SDR(dB)|6|12.50|")
    assert lines[4:8] == [
        "| snr_db     | files | SI-SDR |",
        "| ---------- | ----: | -----: |",
        "| 0 to 12.5  |     3 |   5.00 |",
        "| 12.5 to 25 |     3 |  20.00 |",
    ]
    assert lines[9:13] == [
        "| room   | files | SI-SDR |",
        "| ------ | ----: | -----: |",
        "| office |     4 |   7.50 |",
        "| (none) |     2 |  22.50 |",
    ]
    assert lines[-1] == "No breakdown by talker (6 groups for 6 files)."

    rows = list(csv.DictReader(outputs[0].open()))
    assert {row["file"]: round(float(row["si_sdr"]), 2) for row in rows} == {
        f"{'deep/' * (index % 2)}{index:02d}.wav": snr for index, snr in enumerate(SNRS)
    }
    document = json.loads(outputs[1].read_text())
    summary = document["summary"]["si_sdr"]
    assert [summary["low"], summary["high"]] == pytest.approx(metrics.bootstrap_interval(SNRS), abs=0.01)
    assert document["groups"]["snr_db"]["12.5 to 25"]["summary"]["si_sdr"]["n"] == 3
    assert document["settings"]["metrics"] == ["si_sdr"] and document["versions"]["numpy"] == np.__version__


def test_nothing_is_overwritten_or_half_written(corpus, monkeypatch, capsys):
    arguments = [corpus / "noisy", "--reference", corpus / "clean", "--metrics", "si_sdr", "-o", corpus / "a.csv"]
    (corpus / "a.csv").write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate_files", lambda *a, **k: pytest.fail("scored before the check"))
        with pytest.raises(FileExistsError, match=r"a.csv exists.*--force"):
            run(*arguments)
        with pytest.raises(NotADirectoryError, match=r"cannot write.*b\.json"):
            run(*arguments, "--force", "--json", corpus / "meta.csv" / "no" / "b.json")
        for same in (corpus / "a.csv", corpus / "clean" / ".." / "a.csv"):
            with pytest.raises(ValueError, match="same file"):
                run(*arguments, "--force", "--json", same)

    write, written = Path.write_text, []

    def full_disk(path, *args, **kwargs):
        written.append(path.name)
        if len(written) == 2:
            write(path, "half")
            raise OSError("no space left")
        return write(path, *args, **kwargs)

    before = sorted(os.listdir(corpus))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        with pytest.raises(OSError, match="no space"):
            run(*arguments, "--force", "--json", corpus / "b.json")
    assert "SI-SDR" in capsys.readouterr().out  # printed, at least
    assert (corpus / "a.csv").read_text() == "precious" and sorted(os.listdir(corpus)) == before
    assert run(*arguments, "--force") == 0
    assert (corpus / "a.csv").read_text().startswith("file,seconds,si_sdr,notes\n")
    assert run(*arguments, "--force", "--json", corpus / "new" / "er" / "b.json") == 0  # folders are made
    assert json.loads((corpus / "new" / "er" / "b.json").read_text())["files"] == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_pipes_and_links_stay_what_they_are(corpus):
    os.mkfifo(corpus / "pipe.csv")
    with pytest.raises(FileExistsError, match=r"pipe.csv is not a regular file"):
        run(corpus / "noisy", "--metrics", "dnsmos", "-o", corpus / "pipe.csv", "--force")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        run(corpus / "noisy", "--metrics", "dnsmos", "-o", corpus / "clean", "--force")
    (corpus / "elsewhere").mkdir()
    (corpus / "link.csv").symlink_to(corpus / "elsewhere" / "scores.csv")
    write_files({corpus / "link.csv": "text"}, overwrite=False)
    assert (corpus / "link.csv").is_symlink() and (corpus / "elsewhere" / "scores.csv").read_text() == "text"
    assert [path.name for path in (corpus / "elsewhere").iterdir()] == ["scores.csv"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can write")
def test_a_folder_that_takes_no_file_is_found_before_the_work(corpus, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate_files", None)
    with pytest.raises(OSError, match="cannot write"):
        run(corpus / "noisy", "-o", "/proc/scores.csv")


def test_comparison_with_the_noisy_input(corpus, capsys, monkeypatch):
    # SIG by the level, so that which file is damaged is known: 3, and 2 after "enhancement" of two files
    monkeypatch.setattr(
        mos, "dnsmos_p835", lambda wav: {"sig": 3.0 if wav.std() > 0.05 else 2.0, "bak": 1.0, "ovrl": 1.0}
    )
    for index, path in enumerate(find_audio(corpus / "noisy").values()):
        target = corpus / "enhanced" / path.relative_to(corpus / "noisy")
        target.parent.mkdir(parents=True, exist_ok=True)
        wav, _ = soundfile.read(path)
        soundfile.write(target, wav * (0.1 if index in (1, 4) else 1), RATE)
    arguments = [corpus / "enhanced", "--noisy", corpus / "noisy", "--metrics", "dnsmos_sig,dnsmos_bak"]
    run(*arguments, "--json", corpus / "a.json")
    out = capsys.readouterr().out
    assert "DNSMOS SIG falls by more than 0.3 below the input's in 2 of 6 files (33.3%)." in out
    row = next(line for line in out.splitlines() if line.startswith("DNSMOS SIG")).split()
    assert row[2:5] == ["6", "3.00", "2.67"] and "-0.33" in row
    document = json.loads((corpus / "a.json").read_text())
    names = list(find_audio(corpus / "noisy"))
    assert document["sig_drops"]["files"] == [names[1], names[4]]
    assert document["summary"]["dnsmos_bak"]["change"]["mean"] == 0

    run(*arguments, "--skip-noisy")
    assert "falls" not in capsys.readouterr().out


class BlockByBlock:
    """The stream of a model, which calls `function(noisy, farend)`, each (batch_size, time)."""

    def __init__(self, function, batch_size):
        self.function, self.batch_size = function, batch_size

    def __call__(self, noisy, farend=None):
        return self.function(noisy, farend)

    def flush(self):
        return np.zeros((self.batch_size, 0), np.float32)


@pytest.fixture
def stub(monkeypatch):
    """A model that returns what it gets, minus the far end."""

    class Stub:
        def __init__(self):
            self.sample_rate, self.farend, self.config = RATE, True, {"network": "Stub"}

        def stream(self, batch_size=1):
            return BlockByBlock(lambda noisy, farend: noisy if farend is None else noisy - farend, batch_size)

    monkeypatch.setattr(deepvqe_hub, "load", lambda name: {"stub": Stub()}[name], raising=False)
    evaluation._load.cache_clear()
    yield
    evaluation._load.cache_clear()


def test_model_enhances_in_memory_with_the_far_end(tmp_path, capsys, stub):
    for folder in ("mic", "farend", "nearend"):
        (tmp_path / folder).mkdir()
    for index in range(3):
        near, far = tone(index) * (index != 2), 0.5 * tone(50 + index)
        for folder, wav in (("mic", near + far), ("farend", far), ("nearend", near)):
            role = {"mic": "mic", "farend": "lpb", "nearend": "target"}[folder]
            soundfile.write(tmp_path / folder / f"{index}_{role}.wav", wav, RATE, subtype="FLOAT")
    (tmp_path / "meta.csv").write_text("file;scenario\n0_mic.wav;doubletalk\n1;DT\n2;farend_singletalk_with_movement\n")
    arguments = [tmp_path / "mic", "--farend", tmp_path / "farend", "--reference", tmp_path / "nearend"]
    arguments += ["--model", "stub", "--metrics", "si_sdr,erle", "--json", tmp_path / "a.json"]
    assert run(*arguments, "--metadata", tmp_path / "meta.csv") == 0
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["summary"]["si_sdr"]["n"] == 2 and document["summary"]["si_sdr"]["mean"] > 90
    assert document["summary"]["si_sdr"]["noisy"]["mean"] == pytest.approx(6, abs=0.5)
    assert document["summary"]["erle"]["n"] == 1 and document["summary"]["erle"]["mean"] == 100
    assert document["model"] == {"name": "stub", "sample_rate": RATE, "config": {"network": "Stub"}}
    assert run(*arguments, "--metadata", tmp_path / "meta.csv", "--talk", "st", "--force") == 0  # goes before the table
    assert json.loads((tmp_path / "a.json").read_text())["summary"]["erle"]["n"] == 3
    assert document["groups"] == {}  # three files: "scenario" has as many values as files


def test_a_model_as_it_is(corpus, stub):
    options = {"reference": corpus / "clean" / "00.flac", "metrics": "si_sdr"}
    model, name = deepvqe_hub.load("stub"), corpus / "noisy" / "00.wav"
    assert evaluation.evaluate_file(name, model=model, **options) == evaluation.evaluate_file(
        name, model="stub", **options
    )
    broken = evaluation.evaluate_file(name, model=SimpleNamespace(sample_rate=RATE), **options)
    assert "the model could not enhance" in broken["notes"]["failed"]


def test_model_errors(corpus, stub):
    with pytest.raises(KeyError):
        run(corpus / "noisy", "--model", "unknown", "--metrics", "si_sdr", "--reference", corpus / "clean")
    with pytest.raises(CommandError, match="leave --noisy out"):
        run(corpus / "noisy", "--model", "stub", "--noisy", corpus / "noisy")


def test_measures_whose_package_is_missing_are_left_out_unless_asked_for(corpus, monkeypatch, capsys):
    for package in ("pesq", "speechmos", "pystoi"):
        monkeypatch.setitem(sys.modules, package, None)
    assert run(corpus / "noisy", "--reference", corpus / "clean") == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()[2:]] == ["SI-SDR"]
    assert 'pesq_wb is left out: PESQ-WB needs the package "pesq": pip install' in captured.err
    with pytest.raises(ImportError, match="pystoi"):
        run(corpus / "noisy", "--reference", corpus / "clean", "--metrics", "stoi,si_sdr")
    with pytest.raises(CommandError, match="speechmos"):
        run(corpus / "noisy")


def test_unreadable_files_are_reported(corpus, capsys):
    (corpus / "noisy" / "00.wav").write_bytes(b"RIFF")
    arguments = [corpus / "noisy", "--reference", corpus / "clean", "--metrics", "si_sdr", "-o", corpus / "a.csv"]
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert "00.wav: not an audio file" in captured.err and "(1 of 6 files: 00.wav)" in captured.err
    assert captured.out.splitlines()[2].split()[2:4] == ["5", "15.00"]
    row = next(csv.DictReader((corpus / "a.csv").open()))
    assert row["file"] == "00.wav" and row["si_sdr"] == "" and "cannot be read" in row["notes"]
    for path in find_audio(corpus / "noisy").values():
        path.write_bytes(b"RIFF")
    with pytest.raises(CommandError, match="none of the 6 files could be scored"):
        run(*arguments, "--force")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["--metrics", "si_sdr"], CommandError, "SI-SDR needs --reference DIR"),
        (["--metrics", "aecmos"], CommandError, "--noisy DIR and --farend DIR"),
        (["--farend", "clean"], CommandError, "microphone signals: --noisy DIR"),
        (["--metrics", "mos"], ValueError, "unknown metric 'mos'"),
        (["--reference", "nowhere"], FileNotFoundError, "nowhere does not exist"),
        (["--talk-column", "room"], CommandError, "--metadata CSV"),
        (["--metadata", "meta.csv", "--talk-column", "room"], ValueError, "'office' is no talk type"),
        (["--metadata", "meta.csv", "--group-by", "size"], ValueError, "no column 'size'; it has snr_db, room, talker"),
        (["--metadata", "meta.csv", "--bins", "1"], CommandError, "at least 2"),
        (["--bins", "3"], CommandError, "--bins is for the columns of --metadata CSV"),
        (["--group-by", "room"], CommandError, "--group-by is for the columns of --metadata CSV"),
    ],
)
def test_wrong_use_is_explained(corpus, monkeypatch, arguments, error, text):
    monkeypatch.chdir(corpus)
    with pytest.raises(error, match=text):
        run("noisy", *arguments)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_pairing_by_path_stem_role_and_fileid(tmp_path):
    where = touch(
        tmp_path / "clean", "a/1.flac", "b/1.flac", "c/2.WAV", "clean_fileid_7.wav", "x.y_lpb.mp3", "notes.txt"
    )
    names = ["a/1.wav", "b/1.opus", "2.wav", "babble_snr5_fileid_7.wav", "x.y_mic.wav"]
    pairs = pair_files(names, where, "reference")
    found = [pairs[name].relative_to(where).as_posix() for name in names]
    assert found == ["a/1.flac", "b/1.flac", "c/2.WAV", "clean_fileid_7.wav", "x.y_lpb.mp3"]
    with pytest.raises(ValueError, match=r"1.wav fits 2 entries of .*a/1.flac, b/1.flac"):
        pair_files(["1.wav"], where, "reference")
    with pytest.raises(FileNotFoundError, match=r"no reference file in .* for 1 of 2 files \(fileid_77.wav\)"):
        pair_files(["2.wav", "fileid_77.wav"], where, "reference")
    with pytest.raises(FileNotFoundError, match="no audio file"):
        find_audio(touch(tmp_path / "empty", "a.txt", ".hidden.wav"))
    single = where / "c" / "2.WAV"
    assert pair_files(["whatever.wav"], single, "reference") == {"whatever.wav": single}


def test_an_accent_apart_from_its_letter(tmp_path):
    """As macOS may keep it."""
    together, apart = "caf\u00e9.wav", "cafe\u0301.flac"
    where = touch(tmp_path / "clean", apart)
    assert pair_files([together], where, "reference") == {together: where / apart}


def test_signals_of_a_recording_in_one_folder(tmp_path):
    """As the AEC Challenge has them: what is called a microphone is no far end."""
    where = touch(tmp_path / "calls", "a_mic.flac", "a_lpb.flac", "b_mic.flac", "b_farend.flac", "c_mic.flac", "c.flac")
    names = ["a_mic.flac", "b_mic.flac", "c_mic.flac"]
    for role, found in (
        ("farend", ["a_lpb.flac", "b_farend.flac", "c.flac"]),
        ("noisy", ["a_mic.flac", "b_mic.flac", "c_mic.flac"]),
    ):
        assert [path.name for path in pair_files(names, where, role).values()] == found


def test_the_very_name_goes_before_the_same_without_suffix(tmp_path):
    where = touch(tmp_path / "clean", "a.wav", "a.flac", "b.flac")
    for names in (["a.wav", "a.flac"], ["a.flac", "a.wav"]):
        assert pair_files(names, where, "reference") == {name: where / name for name in names}
    for names in (["b.flac", "b.wav"], ["b.wav", "b.flac"]):
        assert find_pairs(names, where, "reference") == dict.fromkeys(names, where / "b.flac")


def test_one_reference_may_serve_two_formats(tmp_path):
    where = touch(tmp_path / "clean", "a.wav", "b.wav", "c/a.wav")
    for names in (["a.wav", "a.flac", "b.wav"], ["a.flac", "b.wav", "a.wav"]):
        pairs = pair_files(names, where, "reference")
        assert pairs == {"a.wav": where / "a.wav", "a.flac": where / "a.wav", "b.wav": where / "b.wav"}


def test_one_file_is_not_taken_for_two(tmp_path):
    where = touch(tmp_path / "clean", "A/1.wav")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files \(B/1.wav\)"):
        pair_files(["A/1.wav", "B/1.wav"], where, "reference")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files \(2.wav\)"):
        pair_files(["1.wav", "2.wav"], where / "A/1.wav", "reference")


def test_far_ends_that_are_the_microphones_are_refused(corpus):
    with pytest.raises(CommandError, match=r"both the far end and the microphone of 00\.wav"):
        run(corpus / "noisy", "--noisy", corpus / "noisy", "--farend", corpus / "noisy", "--metrics", "erle")


def test_metadata_in_another_encoding(tmp_path):
    (tmp_path / "meta.csv").write_bytes("file,room\na.wav,B\xe4r\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"meta\.csv is not UTF-8"):
        Metadata(tmp_path / "meta.csv", ["a.wav"])


def test_metadata_groups(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text(
        "\ufeffsnr\tfile\treverb\tname\n1.5\ta\t0\tq\n\tb.wav\t1\tr\n3\tc\t1\ts\n4\td\t0\tt\n-2\te\t1\tu\n", "utf-8"
    )
    metadata = Metadata(path, ["a.wav", "b.flac", "sub/c.wav", "d.wav", "e.wav", "f.wav"])
    assert metadata.unmatched == ["f.wav"]
    groups, left_out = metadata.groups(bins=2)
    assert groups == {
        "snr": {"-2 to 2.25": ["a.wav", "e.wav"], "2.25 to 4": ["sub/c.wav", "d.wav"], "(none)": ["b.flac", "f.wav"]},
        "reverb": {"0": ["a.wav", "d.wav"], "1": ["b.flac", "sub/c.wav", "e.wav"], "(none)": ["f.wav"]},
    }
    assert left_out == {"name": "6 groups for 6 files"}
    assert len(metadata.groups(["name"])[0]["name"]) == 6
    path.write_text("\n\r\nfile;a\na.wav;1,5\n")
    assert Metadata(path, ["a.wav"]).rows == {"a.wav": {"a": "1,5"}}
    path.write_text("file\na.wav\n")
    alone = Metadata(path, ["a.wav", "b.wav"])
    assert alone.rows == {"a.wav": {}, "b.wav": {}} and alone.unmatched == ["b.wav"]
    with pytest.raises(ValueError, match=r'"file".*names none of the files, e\.g\. z\.wav'):
        Metadata(path, ["z.wav"])
    path.write_text('file,snr\na.wav,"' + "1" * 200_000)
    with pytest.raises(ValueError, match="no CSV file"):
        Metadata(path, ["a.wav"])
    path.write_text("file,snr,snr\na.wav,1,2\n")
    with pytest.raises(ValueError, match="several columns 'snr'"):
        Metadata(path, ["a.wav"])
    path.write_text('file,room\na.wav,"small\nroom"\n')  # a group of two lines would break the table of results
    assert Metadata(path, ["a.wav"]).rows == {"a.wav": {"room": "small room"}}


def test_groups_are_found_without_comparing_each_with_each(monkeypatch):
    class Word(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Word.compared += 1
            return str.__eq__(self, other)

    words = [Word(f"word {i:03d}") for i in range(300)]
    order, labels = _labels(words[::-1], [float("nan")] * len(words), 4)
    assert order == words and labels == words[::-1]
    assert Word.compared < 10 * len(words)


def test_metadata_as_pandas_writes_it(tmp_path):
    path, names = tmp_path / "meta.csv", ["a.wav", "b.wav"]
    rows = {"a.wav": {"snr": "5"}, "b.wav": {"snr": "10"}}
    for head in (",file,snr", ",recording,snr", " ,file,snr,,"):
        path.write_text(f"{head}\n0,a.wav,5\n1,b.wav,10\n")
        metadata = Metadata(path, names)
        assert metadata.rows == rows and metadata.columns == ["snr"]
    path.write_text(",snr\na.wav,5\nb.wav,10\n")  # the index names the files
    assert Metadata(path, names).rows == rows
    path.write_text("id,file,snr\n0,a.wav,5\n1,b.wav,10\n")
    assert Metadata(path, names).rows == {"a.wav": {"id": "0", "snr": "5"}, "b.wav": {"id": "1", "snr": "10"}}
    path.write_text("file,id,snr\nx/a.wav,a,5\n,b,10\n")
    assert Metadata(path, names).rows["a.wav"] == {"id": "a", "snr": "5"}
    path.write_text("file,id,snr\nfar,a,5\nnear,b,10\n")
    assert Metadata(path, names).rows["b.wav"] == {"file": "near", "snr": "10"}
    with pytest.raises(ValueError, match=r'"file" or "id" of .*names none of the files, e\.g\. z\.wav'):
        Metadata(path, ["z.wav"])


def test_numbers_are_in_the_order_of_numbers(tmp_path):
    path, names = tmp_path / "meta.csv", [f"{index}.wav" for index in range(8)]

    def order(separator, *values, bins=4):
        lines = [f"{name}{separator}{values[index % len(values)]}" for index, name in enumerate(names)]
        path.write_text("\n".join([f"file{separator}snr", *lines]))
        return list(Metadata(path, names).groups(["snr"], bins)[0]["snr"])

    assert order(",", 0, 10, 15, 5) == ["0", "5", "10", "15"]
    assert order(",", "inf", -5, 10, "") == ["-5", "10", "inf", "(none)"]
    assert order(",", 10, 5, "loud") == ["10", "5", "loud"]
    assert order(";", "10,5", "2,5", "-1,5") == ["-1,5", "2,5", "10,5"]
    assert order(";", "0,5", "1,5", "2,5", "3,5", bins=2) == ["0.5 to 2", "2 to 3.5"]
    assert order("\t", "10,5", "2,5") == ["10,5", "2,5"]  # perhaps lists


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape"])  # the latter as of pipes on Windows
def test_a_terminal_that_cannot_show_a_letter(encoding, corpus):
    (corpus / "meta.csv").write_text("file,Gr\u00f6\u00dfe\n00,1\n01,1\n02,2\n03,2\n", "utf-8")
    arguments = ["noisy", "--reference", "clean", "--metadata", "meta.csv", "--metrics", "si_sdr", "-q", "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "deepvqe_hub", "evaluate", *arguments],
        cwd=corpus,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Gr\\xf6\\xdfe" in done.stdout and "SI-SDR" in done.stdout


def test_talk_types():
    words = ["farend_single_talk", "doubletalk_with_movement", "NST", "Near-end single talk", "st-fe", "echo", ""]
    assert [parse_talk(word) for word in words] == ["st", "dt", "nst", "nst", "st", None, None]


def test_json_has_no_nan_and_tables_escape_bars():
    assert json.loads(report.to_json({"a": [float("nan"), float("inf"), 1.23456789], "b": Path("x")})) == {
        "a": [None, None, 1.23457],
        "b": "x",
    }
    assert report.render([["a|b", "n"], ["x", "10"]], markdown=True).splitlines() == [
        "| a\\|b |  n |",
        "| ---- | -: |",
        "| x    | 10 |",
    ]
