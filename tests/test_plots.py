"""Pictures: what is drawn of which model, and that nothing is overwritten."""

import importlib

import pytest
import soundfile
import torch
from tiny import CONFIG, FAREND, OPTIONS

from deepvqe_hub import EnhancementModel

LOG = "epoch: 1, hours: 0.5 - train loss: 41.6 - valid loss: 14.2, valid si_sdr: -1.5e-01\n"


@pytest.fixture
def plots():
    pytest.importorskip("matplotlib")
    return importlib.import_module("deepvqe_hub.plots")


def test_a_row_for_the_delay_where_the_model_finds_one(plots, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", torch.rand(32000).numpy() - 0.5, 16000)
    rows, save = [], plots.save
    monkeypatch.setattr(plots, "save", lambda figure, *rest: (rows.append(figure.axes), save(figure, *rest)))
    aligned, unaligned = (
        EnhancementModel(options={**OPTIONS, **FAREND, "align": align}).eval() for align in (True, False)
    )
    for i, (model, titles) in enumerate(((aligned, 4), (unaligned, 3), (EnhancementModel(**CONFIG), 3), (None, 3))):
        paths = [tmp_path / "a.wav"] * 2
        plots.plot_enhancement(*paths, tmp_path / f"{i}.png", model=model, farend=paths[0], seconds=1)
        assert sum(bool(axis.get_title()) for axis in rows[-1]) == titles
        assert (tmp_path / f"{i}.png").read_bytes().startswith(b"\x89PNG")


def test_a_curve_overwrites_only_when_asked_and_leaves_matplotlib_as_it_is(plots, tmp_path, monkeypatch):
    pytest.importorskip("speechbrain")
    from deepvqe_hub.training import curve

    log, picture = tmp_path / "train_log.txt", tmp_path / "curve.svg"
    log.write_text(LOG)
    monkeypatch.setattr("matplotlib.use", lambda *_: pytest.fail("the backend is the user's"))
    curve.main([str(log), str(picture)])
    assert "<svg" in picture.read_text()
    picture.write_text("another's")
    with pytest.raises(FileExistsError, match="exists"):
        curve.plot([log], picture)
    assert picture.read_text() == "another's"
    curve.main([str(log), str(picture), "--force"])
    assert "<svg" in picture.read_text()
