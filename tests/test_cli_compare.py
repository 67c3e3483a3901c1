"""deepvqe compare."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import CONFIG

import deepvqe_hub
from deepvqe_hub import EnhancementModel, metrics
from deepvqe_hub.cli import _measure, compare, main
from deepvqe_hub.hub import save_folder
from deepvqe_hub.models.complexity import count_model


@pytest.fixture
def recordings(tmp_path):
    """noisy/ and clean/ of three files whose SI-SDR is 0, 10 and 20 dB."""
    random = np.random.default_rng(0)
    for index in range(3):
        clean, noise = random.standard_normal((2, 8000)) * 0.05
        noise -= clean * (noise @ clean) / (clean @ clean)
        noise *= np.linalg.norm(clean) / np.linalg.norm(noise) * 10 ** (-index / 2)
        for folder, wave in (("clean", clean), ("noisy", clean + noise)):
            (tmp_path / folder).mkdir(exist_ok=True)
            soundfile.write(tmp_path / folder / f"{index}.wav", wave, 16000, subtype="FLOAT")
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    return save_folder(EnhancementModel.from_config(CONFIG).eval(), tmp_path / "tiny")


def test_a_graph_with_a_config_of_no_model(folder, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    graph = tmp_path / "tiny.onnx"
    assert main(["export", str(folder), str(graph)]) == 0
    model = onnx.load(graph)
    info = json.loads(model.metadata_props[0].value)
    info["config"] = info["config"] | {"network": "TFGridNet", "options": {"heads": 0}}
    model.metadata_props[0].value = json.dumps(info)
    onnx.save(model, graph)
    assert main(["compare", str(graph), "--seconds", "1"]) == 2
    assert "describes no model" in capsys.readouterr().err


def test_costs_and_quality_of_a_folder_and_an_exported_graph(recordings, folder, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    graph, table, picture = recordings / "tiny.onnx", recordings / "table.csv", recordings / "plot.png"
    assert main(["export", str(folder), str(graph)]) == 0
    capsys.readouterr()
    status = main(
        ["compare", f"ours={folder}", str(graph), "tf-gridnet", "--noisy", str(recordings / "noisy"), "--seconds", "1"]
        + ["--reference", str(recordings / "clean"), "--metrics", "si_sdr", "--jobs", "1", "--markdown"]
        + ["-o", str(table), "--plot", str(picture)]
    )
    assert status == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["(unprocessed)", "ours", "tiny.onnx", "tf-gridnet"]
    rows = {row["model"]: row for row in csv.DictReader(table.read_text().splitlines())}
    cost = count_model(EnhancementModel.from_config(CONFIG))
    model, scores = deepvqe_hub.load(folder), []
    for index in range(3):
        noisy, clean = (
            soundfile.read(recordings / kind / f"{index}.wav", dtype="float32")[0] for kind in ("noisy", "clean")
        )
        with torch.inference_mode():
            scores.append(float(metrics.si_sdr(model(torch.from_numpy(noisy)), clean)))
    for name in ("ours", "tiny.onnx"):
        row = rows[name]
        assert int(row["parameters"]) == cost.parameters
        assert float(row["macs_per_second"]) == pytest.approx(cost.macs_per_second)
        assert float(row["offline_rtf"]) > 0 and float(row["step_ms_p50"]) > 0 and float(row["peak_mb"]) > 10
        assert float(row["si_sdr"]) == pytest.approx(np.mean(scores), abs=1e-3)
        assert float(row["si_sdr_low"]) < float(row["si_sdr"]) < float(row["si_sdr_high"])
    assert float(rows["(unprocessed)"]["si_sdr"]) == pytest.approx(10, abs=1e-3)
    offline = rows["tf-gridnet"]  # neither live nor with weights
    assert offline["parameters"] == "1601984" and not offline["step_ms_p50"] and not offline["si_sdr"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_means_are_of_the_same_files(recordings, folder, capsys, monkeypatch):
    """Of files that all models, and the input, have a score of; else the one that silences the hardest gains."""

    def scores(args, label, model, cases, metrics, score_noisy):
        results = [
            {"si_sdr": 5.0 + i, "notes": {}} | ({"noisy_si_sdr": float(i)} if score_noisy else {}) for i in range(3)
        ]
        results[0]["si_sdr"] = 5.0 if score_noisy else float("nan")
        return results

    monkeypatch.setattr(compare, "_score", scores)
    command = ["compare", f"one={folder}", f"two={folder}", "--noisy", str(recordings / "noisy"), "--live", "torch"]
    arguments = ["--reference", str(recordings / "clean"), "--metrics", "si_sdr", "--seconds", "1", "-o", "t.csv"]
    monkeypatch.chdir(recordings)
    assert main([*command, *arguments]) == 0
    rows = {row["model"]: float(row["si_sdr"]) for row in csv.DictReader(Path("t.csv").read_text().splitlines())}
    assert rows == {"(unprocessed)": 1.5, "one": 6.5, "two": 6.5}
    assert "si_sdr is of the 2 of 3 files" in capsys.readouterr().err


def test_files_that_fail(recordings, folder, capsys):
    (recordings / "noisy" / "1.wav").write_text("this is no sound")
    command = ["compare", str(folder), "--noisy", str(recordings / "noisy"), "--reference", str(recordings / "clean")]
    command += ["--metrics", "si_sdr", "--live", "torch", "--seconds", "1", "--jobs", "1"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert str(folder) in out and "not an audio file" in err and "1 of 3 files: 1" in err
    for index in (0, 2):
        (recordings / "noisy" / f"{index}.wav").write_text("this is no sound")
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert str(folder) in out and "error: none of the 3 files could be scored: enhanced file cannot be read" in err


def test_a_table_without_recordings(folder, capsys):
    assert main(["compare", str(folder), "--live", "torch", "--seconds", "1", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "multiply-adds" in out and "DNSMOS" not in out and not err


def test_the_cost_of_a_name_is_that_of_its_weights():
    for name in deepvqe_hub.hub.registry.ENTRIES:
        row = next(row for row in deepvqe_hub.list_models() if row.name == name)
        cost = _measure.describe(name)
        assert (cost["parameters"], cost["macs_per_second"]) == (row.parameters, row.macs_per_second)


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_number_of_processes_that_makes_no_sense(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "deepvqe-s", "--jobs", "-5"])
    assert "--jobs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["deepvqe-s", "deepvqe-s"], "LABEL="),
        (["deepvqe-s", "--reference", "clean"], "--noisy"),
        (["deepvqe-s", "--plot", "plot.png"], "--noisy"),
        (["deepvqe-s", "--talk-column", "kind"], "--talk-column needs recordings: --noisy"),
        (["deepvqe-s", "--jobs", "2"], "--jobs needs recordings: --noisy"),
        (["deepvqe-s", "--plot-quality", "pesq_wb"], "--plot PNG"),
        (["deepvqe-s", "--plot-cost", "peak_mb"], "--plot PNG"),
        (["deepvqe-s", "--seconds", "0"], "--seconds"),
        (["deepvqe-s", "--seconds", "inf"], "--seconds"),
        (["no-such-model"], "no-such-model"),
    ],
)
def test_errors(arguments, message, capsys):
    assert main(["compare", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_call_of_several_frames_is_counted_by_the_frame(folder, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    graph = tmp_path / "four.onnx"
    assert main(["export", str(folder), str(graph), "--frames", "4"]) == 0
    case = _measure.measure(_measure.Trial(str(graph), "onnx", 1, 1.0), str(graph))
    assert case["frames"] == 4
    monkeypatch.setattr(_measure, "apart", lambda *_: case)
    cost = _measure.measure_cost(str(graph), 1.0, "onnx")
    for name in ("step_ms_p50", "step_ms_p99"):
        assert cost[name] == pytest.approx(case[name] / 4, abs=1e-3)


def test_a_picture_of_no_format_is_refused_before_the_work(recordings, capsys):
    pytest.importorskip("matplotlib")
    command = ["compare", "no-such-model", "--noisy", str(recordings / "noisy"), "--metrics", "si_sdr"]
    assert main([*command, "--reference", str(recordings / "clean"), "--plot", "q.xyz"]) == 2
    assert "q.xyz: the name of a picture ends in" in capsys.readouterr().err


def test_an_existing_table_is_kept(folder, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("mine")
    assert main(["compare", str(folder), "-o", str(table)]) == 2
    assert "--force" in capsys.readouterr().err and table.read_text() == "mine"


def test_labels():
    assert compare._labelled(["a=b/c", "d/e.onnx", "deepvqe-s"]) == {
        "a": "b/c",
        "e.onnx": "d/e.onnx",
        "deepvqe-s": "deepvqe-s",
    }


def test_paths_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    assert compare._labelled(["lr=0.1", "runs/lr=1e-3/model", "a=runs/lr=1/b"]) == {
        "lr=0.1": "lr=0.1",
        "runs/lr=1e-3/model": "runs/lr=1e-3/model",
        "a": "runs/lr=1/b",
    }
