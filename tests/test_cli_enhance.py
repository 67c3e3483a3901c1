"""`deepvqe enhance` and `deepvqe models` as typed, with tiny random models in place of trained ones."""

import concurrent.futures
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from test_files import RATE, broken_files, noise, tiny

import deepvqe_hub
from deepvqe_hub.cli import CommandError, _inputs, _work, main
from deepvqe_hub.cli._inputs import plan
from deepvqe_hub.hub.registry import ModelInfo
from deepvqe_hub.processes import terminated_cleanly


@pytest.fixture(scope="module")
def models():
    return {"deepvqe-s": tiny(), "deepvqe-aec-s": tiny(farend_channels=[2, 4], align_hidden=4, dmax=20)}


@pytest.fixture(autouse=True)
def loaded(models, monkeypatch):
    monkeypatch.setitem(deepvqe_hub.__dict__, "load", lambda name, device=None: models[name])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, seconds=0.5, rate=RATE, channels=1, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, channels, rate), rate, **kwargs)


def enhance(*arguments):
    return main(["enhance", *map(str, arguments)])


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_file(folder, models, capsys):
    write(folder / "noisy.wav", subtype="PCM_24")
    assert enhance("noisy.wav") == 0
    info = soundfile.info("noisy.enhanced.wav")
    assert (info.subtype, info.frames) == ("PCM_24", RATE // 2)
    assert "real-time factor" in capsys.readouterr().err
    out, _ = soundfile.read("noisy.enhanced.wav")
    expected = deepvqe_hub.enhance(models["deepvqe-s"], soundfile.read("noisy.wav")[0], RATE)
    np.testing.assert_allclose(out, np.clip(expected, -1, 1), atol=2**-22)

    assert enhance("noisy.wav") == 2
    assert "noisy.enhanced.wav exists" in capsys.readouterr().err
    assert enhance("noisy.wav", "--force", "-q", "--mix", "0.5", "--attenuation-limit", "12", "--threads", "1") == 0
    assert capsys.readouterr().err == ""
    blend = deepvqe_hub.enhance(
        models["deepvqe-s"], soundfile.read("noisy.wav")[0], RATE, mix=0.5, attenuation_limit_db=12
    )
    np.testing.assert_allclose(soundfile.read("noisy.enhanced.wav")[0], np.clip(blend, -1, 1), atol=2**-22)
    assert enhance("noisy.wav", "-o", "sub/clean.flac") == 0
    assert soundfile.info("sub/clean.flac").format == "FLAC"
    assert enhance("noisy.wav", "-o", "sub/") == 0
    assert tree(folder) == ["noisy.enhanced.wav", "noisy.wav", "sub/clean.flac", "sub/noisy.wav"]


def test_folder_of_all_kinds(folder, capsys):
    corpus = folder / "in"
    write(corpus / "a.wav", rate=8000)
    write(corpus / "deep" / "er" / "b.FLAC", rate=44100, channels=2)
    write(corpus / "deep" / "c.wav", rate=48000, subtype="PCM_24")
    (corpus / "notes.txt").write_text("not for us")
    write(corpus / ".hidden.wav")
    good = ["a.wav", "deep/c.wav", "deep/er/b.FLAC"]
    bad = [name for name in broken_files(corpus) if name.endswith(("wav", "flac", "mp3", "ogg"))]

    assert enhance("in", "-o", "out") == 1
    assert tree(folder / "out") == good
    errors = capsys.readouterr().err
    assert f"{len(bad)} inputs failed" in errors and "Traceback" not in errors
    assert all(os.path.join("in", name) in errors for name in bad)
    for name in good:
        before, after = soundfile.info(corpus / name), soundfile.info(folder / "out" / name)
        for what in ("frames", "samplerate", "channels", "subtype", "format"):
            assert getattr(before, what) == getattr(after, what)

    assert enhance("in", "-o", "out") == 2  # nothing is replaced unasked
    capsys.readouterr()
    (folder / "out" / "a.wav").write_bytes(b"kept")
    (folder / "out" / "deep" / "c.wav").unlink()
    assert enhance("in", "-o", "out", "--resume") == 1
    assert "2 skipped" in capsys.readouterr().err
    assert tree(folder / "out") == good and (folder / "out" / "a.wav").read_bytes() == b"kept"


def test_output_within_the_input(folder):
    write(folder / "in" / "a.wav")
    write(folder / "in" / "out" / "stale.wav")
    assert enhance("in", "-o", "in/out") == 0
    assert tree(folder) == ["in/a.wav", "in/out/a.wav", "in/out/stale.wav"]
    assert enhance("in", "-o", "in/out", "--resume") == 0
    assert enhance("in", "-o", "in/") == 2
    assert enhance("in") == 2


def test_a_name_that_says_no_format(folder, capsys):
    write(folder / "a.wav")
    (folder / "a.wav").rename(folder / "a")
    assert enhance("a") == 2 and "name it with -o" in capsys.readouterr().err
    assert enhance("a", "-o", "b.wav") == 0


def test_folders_are_searched_in_one_way(folder):
    """By enhance, by evaluate and for training: through links, which may lead in circles, without what is hidden."""
    from deepvqe_hub.data import find_clips
    from deepvqe_hub.pairing import find_audio

    for name in ("elsewhere/a.aiff", "in/b.WAV", "in/._b.wav", "in/.trash/c.wav", "out/linked/a.aiff"):
        write(folder / name, 0.1)
    (folder / "in" / "linked").symlink_to(folder / "elsewhere", target_is_directory=True)
    (folder / "in" / "circle").symlink_to(folder / "in", target_is_directory=True)
    (folder / "in" / "results").symlink_to(folder / "out", target_is_directory=True)
    jobs, _ = plan(["in"], "out", resume=True)
    assert [str(job.source) for job in jobs] == ["in/b.WAV"]  # the other is done, and results are no input
    assert list(find_audio(folder / "in")) == ["b.WAV", "linked/a.aiff", "results/linked/a.aiff"]
    assert [clip.path for clip in find_clips("in")] == ["in/b.WAV", "in/linked/a.aiff", "in/results/linked/a.aiff"]
    (folder / "in" / "a_second_way").symlink_to(folder / "in" / "sub", target_is_directory=True)
    write(folder / "in" / "sub" / "d.wav", 0.1)
    assert "in/sub/d.wav" in [clip.path for clip in find_clips("in")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text(folder):
    from deepvqe_hub.atomic import write_files
    from deepvqe_hub.metrics.report import to_csv

    name = os.fsdecode(b"caf\xe9.wav")  # Latin-1
    write(folder / "in" / "a.wav")
    (folder / "in" / "a.wav").rename(folder / "in" / name)
    os.mkdir(os.fsdecode(b"r\xe9sultats"))
    assert enhance("in", "-o", os.fsdecode(b"r\xe9sultats"), "--quiet") == 0
    assert os.listdir(os.fsdecode(b"r\xe9sultats")) == [name]
    scores = deepvqe_hub.metrics.evaluate_file(folder / "in" / name, folder / "in" / name, metrics="si_sdr")
    assert scores["si_sdr"] > 60
    write_files({folder / "scores.csv": to_csv([scores])}, overwrite=False)
    assert "caf\\udce9.wav" in (folder / "scores.csv").read_text()


def test_glob_and_several(folder, capsys):
    for name in ("a.wav", "b.wav", "x/c.wav", "x/y/d.flac"):
        write(folder / "in" / name, 0.1)
    assert enhance("in/*.wav", "-o", "one") == 0
    assert enhance("in/**/*", "-o", "two") == 0
    assert enhance("in/a.wav", "in/b.wav") == 0
    assert enhance("in/*.wav", "--resume") == 0  # results of the last line are no inputs
    assert enhance("in", "in/a.wav", "in/../in/b.wav", "-o", "four") == 2  # the same file by another name
    assert "both be written" in capsys.readouterr().err
    assert enhance("in", "in/a.wav", "-o", "four") == 0
    assert tree(folder / "four") == tree(folder / "in")
    assert tree(folder / "one") == ["a.wav", "b.wav"]
    assert tree(folder / "two") == ["a.wav", "b.wav", "x/c.wav", "x/y/d.flac"]
    assert not list(folder.rglob("*.enhanced.enhanced.*"))
    for arguments, message in [
        (["nothing/*.wav", "-o", "n"], "no audio files"),
        (["missing.wav"], "missing.wav: no such file"),
        (["in/a.wav", "one/a.wav", "-o", "three"], "both be written"),
        (["in/a.wav", "in/b.wav", "-o", "clean.wav"], "one file"),
        (["in/a.wav", "-o", "clean"], "no extension"),
        (["in/a.wav", "-o", "clean.xyz"], "clean.xyz: cannot write .xyz"),
        (["-", "-o", "clean.xyz"], "clean.xyz: cannot write .xyz"),
        (["in/a.wav", "x.wav", "-o", "one"], "x.wav"),
        (["one/a.wav", "in/a.wav", "-o", "in", "--force"], "would replace the input in/a.wav"),
        (["in/a.wav", "-", "-o", "in"], "standard input"),
        (["in/a.wav", "in/b.wav", "-o", "-"], "standard output"),
        (["in/a.wav", "-o", "o.wav", "--mix", "2"], "mix"),
        (["in/a.wav", "-o", "o.wav", "--farend", "in/b.wav", "--model", "deepvqe-s"], "echo-cancelling"),
        (["in/a.wav", "-o", "o.wav", "--farend", "nowhere.wav"], "nowhere.wav"),
    ]:
        assert enhance(*arguments) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "three").exists() and not (folder / "o.wav").exists()


def test_standard_input_and_output(folder, monkeypatch, capsysbinary):
    write(folder / "in.flac", 0.7, 44100, 2, subtype="PCM_24")
    data = (folder / "in.flac").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert enhance("-") == 0
    out = io.BytesIO(capsysbinary.readouterr().out)
    info = soundfile.info(out)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_24", 44100, 2)
    assert info.frames == round(0.7 * 44100)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert enhance("-", "-o", "out.ogg") == 0
    assert soundfile.info("out.ogg").frames == info.frames
    assert enhance("in.flac", "-o", "-") == 0
    assert capsysbinary.readouterr().out.startswith(b"RIFF")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert enhance("-") == 1
    captured = capsysbinary.readouterr()
    assert captured.out == b"" and b"standard input: empty" in captured.err
    assert enhance("-", "--plot") == 2


def test_a_file_called_like_the_standard_streams(folder, monkeypatch, capsysbinary):
    write(folder / "in.wav", 0.1)
    (folder / "in.wav").rename(folder / "-")
    data = (folder / "-").read_bytes()
    assert enhance("./-", "-o", "-", "--resume") == 0
    assert capsysbinary.readouterr().out.startswith(b"RIFF")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert enhance("-") == 0
    assert capsysbinary.readouterr().out.startswith(b"RIFF")
    assert (folder / "-").read_bytes() == data


def test_a_model_that_fails_leaves_nothing(folder, models, monkeypatch, capsys):
    write(folder / "in" / "a.wav", 9.0)
    write(folder / "in" / "b.wav", 0.5)
    stream = type(models["deepvqe-s"]).stream

    def failing(self, *arguments):
        real, calls = stream(self, *arguments), []

        def step(chunk, farend=None):
            calls.append(chunk)
            if len(calls) == 2:
                raise RuntimeError("out of memory")
            return real(chunk, farend)

        call, size = (lambda _, *arguments: step(*arguments)), real.batch_size
        return type("Failing", (), {"__call__": call, "flush": real.flush, "batch_size": size})()

    monkeypatch.setattr(type(models["deepvqe-s"]), "stream", failing)
    assert enhance("in", "-o", "out") == 1
    assert "a.wav: RuntimeError: out of memory" in capsys.readouterr().err
    assert tree(folder / "out") == ["b.wav"]


def test_far_end_pairing(folder, capsys):
    for name in ("1", "x/2"):
        write(folder / "calls" / f"{name}_mic.wav")
        write(folder / "calls" / f"{name}_lpb.wav")
        write(folder / "far" / f"{name}_mic.wav", rate=8000)

    def pairs(*arguments):
        jobs, _ = plan(*arguments)
        return {str(job.source): job.farend and str(job.farend) for job in jobs}

    beside = {"calls/1_mic.wav": "calls/1_lpb.wav", "calls/x/2_mic.wav": "calls/x/2_lpb.wav"}
    assert pairs(["calls"], "o", None, "*_mic.wav=*_lpb.wav") == beside
    assert pairs(["calls"], "o", "calls", "*_mic.wav=*_lpb.wav") == beside
    same = {"calls/1_mic.wav": "far/1_mic.wav", "calls/x/2_mic.wav": "far/x/2_mic.wav"}
    assert pairs(["calls/**/*_mic.wav"], "o", "far") == same
    assert pairs(["calls/1_mic.wav"], "o/", "far", "*.wav") == {"calls/1_mic.wav": "far/1_mic.wav"}
    assert set(pairs(["calls"], "o", "calls/1_lpb.wav").values()) == {"calls/1_lpb.wav"}
    for arguments in (
        (["calls"], "o", None, "lpb"),
        (["calls"], "o", "far", "*_mic.wav=*_*.wav"),
        (["calls"], "o", "calls/1_lpb.wav", "*_lpb.wav"),
        (["calls/1_lpb.wav"], "o", None, "*_mic.wav=*_lpb.wav"),
    ):
        with pytest.raises(CommandError, match="pattern"):
            plan(*arguments)

    for name in ("1", "x/2"):
        write(folder / "far ends" / f"{name}_lpb.flac")
    assert pairs(["calls"], "o", "calls") == beside  # as `evaluate` pairs: without a pattern, too
    named = {"calls/1_mic.wav": "far ends/1_lpb.flac", "calls/x/2_mic.wav": "far ends/x/2_lpb.flac"}
    assert pairs(["calls/**/*_mic.wav"], "o", "far ends") == named
    assert pairs(["calls/x/2_mic.wav"], "o/", "far ends") == {"calls/x/2_mic.wav": "far ends/x/2_lpb.flac"}
    write(folder / "calls" / "x" / "1_lpb.wav")
    write(folder / "calls" / "y" / "1_lpb.wav")
    (folder / "calls" / "1_lpb.wav").rename(folder / "1_lpb.wav")
    with pytest.raises(ValueError, match=r"1_mic\.wav fits 2 entries"):
        plan(["calls/1_mic.wav"], "o/", "calls")
    (folder / "1_lpb.wav").rename(folder / "calls" / "1_lpb.wav")
    for name in ("x", "y"):
        (folder / "calls" / name / "1_lpb.wav").unlink()
    with pytest.raises(CommandError, match="both the far end and the microphone"):
        plan(["far/1_mic.wav"], "o/", "far")

    (folder / "far ends" / "x" / "2_lpb.flac").unlink()
    assert enhance("calls/**/*_mic.wav", "--farend", "far ends", "-o", "partly") == 1  # the others are done
    assert "2_mic.wav: no such file" in capsys.readouterr().err and tree(folder / "partly") == ["1_mic.wav"]

    (folder / "calls" / "x" / "2_lpb.wav").unlink()
    write(folder / "calls" / "1_lpb.wav", 0.2, 48000, 2)
    assert enhance("calls", "--farend-pattern", "*_mic.wav=*_lpb.wav", "-o", "out") == 1
    errors = capsys.readouterr().err
    assert "calls/x/2_mic.wav: calls/x/2_lpb.wav: no such file" in errors and "shorter: padded" in errors
    assert tree(folder / "out") == ["1_mic.wav"]


@pytest.mark.parametrize("option", ["--force", "--resume"])
def test_far_ends_are_neither_replaced_nor_taken_for_results(folder, option, capsys):
    for place in ("mic", "far"):
        write(folder / place / "a.wav", 0.2)
    before = (folder / "far" / "a.wav").read_bytes()
    assert enhance("mic", "--farend", "far", "-o", "far", option) == 2
    assert "would replace the far end far/a.wav" in capsys.readouterr().err
    assert (folder / "far" / "a.wav").read_bytes() == before


def test_plot(folder, capsys):
    pytest.importorskip("matplotlib")
    write(folder / "mic.wav", 1.5, 8000, 2)
    write(folder / "far.wav", 1.0)
    assert enhance("mic.wav", "-o", "o/clean.wav", "--plot") == 0
    assert enhance("mic.wav", "-o", "o/echo.flac", "--plot", "--farend", "far.wav") == 0
    assert tree(folder / "o") == ["clean.png", "clean.wav", "echo.flac", "echo.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("o/*.png"))
    (folder / "o" / "clean.wav").unlink()
    assert enhance("mic.wav", "-o", "o/clean.wav", "--plot") == 2
    assert "clean.png exists" in capsys.readouterr().err
    (folder / "o" / "echo.png").unlink()
    before = (folder / "o" / "echo.flac").stat()
    assert enhance("mic.wav", "-o", "o/echo.flac", "--plot", "--farend", "far.wav", "--resume") == 0
    assert (folder / "o" / "echo.png").exists() and (folder / "o" / "echo.flac").stat() == before
    assert "drew o/echo.png" in capsys.readouterr().err
    assert enhance("mic.wav", "-o", "o/echo.flac", "--plot", "--farend", "far.wav", "--resume") == 0
    assert "nothing to do, 1 skipped" in capsys.readouterr().err


def test_pictures_of_one_stem(folder):
    for name in ("a.wav", "a.flac", "b.wav", "c/a.wav"):
        write(folder / "in" / name, 0.2)

    def pictures():
        jobs, _ = plan(["in"], "out", plot=True)
        return {str(job.source): str(job.plot) for job in jobs}

    assert pictures() == {
        "in/a.wav": "out/a.wav.png",
        "in/a.flac": "out/a.flac.png",
        "in/b.wav": "out/b.png",
        "in/c/a.wav": "out/c/a.png",
    }
    (folder / "in" / "a.flac").rename(folder / "in" / "a.FLAC")
    assert pictures()["in/a.FLAC"] == "out/a.FLAC.png"


def test_delay_plot_in_blocks_equals_the_whole(folder, models):
    pytest.importorskip("matplotlib")
    import torch

    from deepvqe_hub.plots import delay_distribution

    model = models["deepvqe-aec-s"]
    mic, far = noise(14.0), noise(14.0, seed=1)
    soundfile.write("mic.wav", mic, RATE, subtype="FLOAT")
    soundfile.write("far.wav", far, RATE, subtype="FLOAT")
    blocks = delay_distribution(model, "mic.wav", "far.wav", 60)
    with torch.inference_mode():
        expected = model.delay_distribution(torch.from_numpy(mic), torch.from_numpy(far)).numpy()
    count = min(len(blocks), len(expected))
    assert abs(len(blocks) - len(expected)) <= 1
    np.testing.assert_allclose(blocks[: count - 1], expected[: count - 1], atol=1e-4)


def test_several_processes(folder, capsys):
    for name in ("a.wav", "b.wav"):
        write(folder / "in" / name)
    (folder / "in" / "c.wav").write_bytes(b"")
    assert enhance("in", "-o", "one") == 1
    assert enhance("in", "-o", "two", "--jobs", "2") == 1
    assert "c.wav: empty" in capsys.readouterr().err
    assert tree(folder / "two") == ["a.wav", "b.wav"]
    for name in ("a.wav", "b.wav"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


class Deadly:
    """A model that ends its process, as the system does when memory runs out."""

    sample_rate, farend = RATE, False

    def stream(self, batch_size=None):
        os._exit(9)


def test_a_process_that_dies(folder, models, monkeypatch, capsys):
    monkeypatch.setitem(models, "deepvqe-s", Deadly())
    for name in ("a.wav", "b.wav"):
        write(folder / "in" / name, 0.1)
    assert enhance("in", "-o", "out", "--jobs", "2") == 1
    errors = capsys.readouterr().err
    assert all(f"in/{name}: not done, as a process died" in errors for name in ("a.wav", "b.wav"))


def test_a_process_that_dies_before_all_is_submitted(monkeypatch):
    @contextlib.contextmanager
    def pool(*_):
        submitted = []

        def submit(function, job, settings):
            if submitted:
                raise BrokenProcessPool
            submitted.append(job)
            future = concurrent.futures.Future()
            future.set_result(_work.Result(seconds=1.0))
            return future

        yield submit

    monkeypatch.setattr(_work, "worker_pool", pool)
    jobs = [_work.Job(Path(f"{i}.wav"), Path(f"out/{i}.wav")) for i in range(3)]
    results = _work.in_processes(None, jobs, _work.Settings(1.0, None, False, False), 2, 1, quiet=True)
    assert [result.error is None for result in results] == [True, False, False]
    assert results[2].error.startswith("2.wav: not done")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_closed_terminal_unwinds():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests
    try:
        with terminated_cleanly(), pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGHUP)
        assert caught.value.code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with terminated_cleanly():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(os.name == "nt", reason="shell")
def test_closed_standard_streams():
    """Whoever reads the output may go; whoever starts the program may have closed its input."""
    deepvqe = f"{sys.executable} -m deepvqe_hub"
    shell = {"shell": True, "capture_output": True, "text": True}
    done = subprocess.run(f"({deepvqe} models; echo $? >&2) | true", **shell)
    assert done.stderr.strip() in ("0", "141")  # 0: it was faster
    done = subprocess.run(f"{deepvqe} stream <&-", **shell)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    done = subprocess.run(f"{deepvqe} enhance - -o - <&-", **shell)
    assert done.returncode != 0 and "Traceback" not in done.stderr and "standard input" in done.stderr
    done = subprocess.run(f"{deepvqe} models >&-", **shell)
    assert done.returncode == 0 and not done.stderr
    for audio in ("enhance - -o -", "stream"):
        done = subprocess.run(f"{deepvqe} {audio} < {os.devnull} >&-", **shell)
        assert (done.returncode, done.stderr) == (2, "deepvqe: error: standard output is closed\n")
    done = subprocess.run(f"{deepvqe} stream < {os.devnull} > {os.devnull}", **shell)
    assert done.returncode == 0 and "closed" not in done.stderr
    if os.path.exists("/dev/full"):
        done = subprocess.run(f"{deepvqe} models > /dev/full", **shell)
        assert done.returncode == 2 and done.stderr.startswith("deepvqe: error: ")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="shell")
def test_closed_standard_error(folder, monkeypatch):
    write(folder / "a.wav")
    monkeypatch.setattr(sys, "stderr", None)
    assert enhance("a.wav", "-o", "b.wav") == 0
    assert (folder / "b.wav").exists()


def test_a_reader_that_goes_is_no_fault_of_the_file(folder, monkeypatch):
    write(folder / "a.wav")

    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr("deepvqe_hub.cli._work.shutil.copyfileobj", gone)
    monkeypatch.setattr("deepvqe_hub.cli._forget_output", lambda: None)
    assert enhance("a.wav", "-o", "-") == 141


def test_a_folder_that_is_not_there_yet(folder, monkeypatch, capsys):
    write(folder / "a.wav")
    assert enhance("a.wav", "-o", "new/") == 0
    assert tree(folder) == ["a.wav", "new/a.wav"]
    monkeypatch.setattr(_inputs, "os", SimpleNamespace(sep="\\"))  # as on Windows
    assert [str(job.output) for job in _inputs.plan(["a.wav"], "newer\\")[0]] == [str(Path("newer\\", "a.wav"))]
    assert main(["enhance", "-", "-o", "newer\\"]) == 2
    assert "-o names a file" in capsys.readouterr().err


def test_names_that_stand_for_nothing(folder, capsys):
    write(folder / "a.wav")
    named = ["a.wav", "-o", "b.wav"]
    for name, arguments in {
        "an argument": ["", "-o", "out/"],
        "-o": ["a.wav", "-o", ""],
        "--farend": [*named, "--farend", ""],
        "--farend-pattern": [*named, "--farend-pattern="],
        "--model": [*named, "--model", ""],
    }.items():
        assert enhance(*arguments) == 2
        assert f" {name} is empty; is a variable of the shell not set?" in capsys.readouterr().err
    assert tree(folder) == ["a.wav"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_with_a_name_is_no_folder(folder, capsys):
    os.mkfifo(folder / "pipe.wav")
    assert enhance("pipe.wav", "-o", "b.wav") == 1
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "1000000"])
@pytest.mark.parametrize("command", [["enhance", "a.wav"], ["stream"], ["benchmark"], ["demo"]])
def test_thread_counts_that_crash_are_refused(command, count, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--threads", count])
    assert "from 1 to 1024" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["enhance", "a.wav"], ["stream"], ["demo"]])
def test_a_device_without_numbers_is_refused(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--device", "meta"])
    assert "argument --device: meta computes nothing" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interruption_leaves_nothing(folder, number):
    write(folder / "in" / "long.wav", 300.0)
    program = (
        "import sys, test_files, deepvqe_hub; deepvqe_hub.load = lambda *_, **__: test_files.tiny()\n"
        "from deepvqe_hub.cli import main; sys.exit(main(['enhance', 'in', '-o', 'out']))"
    )
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell ignores SIGINT, and so would everything that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.time() + 180
    while not list(folder.glob("out/.*.part")) and process.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in errors
    assert os.listdir(folder / "out") == []


def test_models(monkeypatch, capsys):
    def row(name):
        return ModelInfo(name, 1234567, 2.5e9, 16000, True, True, "none yet", False, "apache-2.0", "us", "small")

    monkeypatch.setitem(deepvqe_hub.__dict__, "list_models", lambda: [row("a"), row("longer-name")])
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "a", "longer-name"]
    assert "1,234,567" in lines[1] and "2.50 G" in lines[1] and "16 kHz" in lines[1]
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["parameters"] == 1234567


@pytest.mark.parametrize("set_by_the_user", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_threads_spin_little(set_by_the_user):
    """Set before torch is imported, and never against what the user has set."""
    code = (
        "import os, sys; from deepvqe_hub.cli import main; assert 'torch' not in sys.modules; main(['models']); "
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | set_by_the_user, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wanted = "None" if "OMP_WAIT_POLICY" in set_by_the_user else set_by_the_user.get("GOMP_SPINCOUNT", "1000")
    assert done.stdout.splitlines()[-1] == wanted


def test_misspelt_options(capsys):
    for option, hint in (("--ouput", "; did you mean --output?"), ("--zzz", "")):
        with pytest.raises(SystemExit) as done:
            main(["enhance", "a.wav", option, "x.wav"])
        assert done.value.code == 2
        assert capsys.readouterr().err.endswith(
            f"deepvqe enhance: error: unrecognized arguments: {option} x.wav{hint}\n"
        )
