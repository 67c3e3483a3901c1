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


def test_axes_say_where_a_tone_and_a_delay_are(plots, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", 0.1 * torch.sin(2 * torch.pi * 3000 / 16000 * torch.arange(32000)), 16000)
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, *_: figures.append(figure))
    model, paths = EnhancementModel(options={**OPTIONS, **FAREND, "dmax": 6}).eval(), [tmp_path / "a.wav"] * 3
    plots.plot_enhancement(*paths, model=model, farend=paths[0], seconds=1)
    noisy, *_, delay = [axis.images[0] for axis in figures[0].axes if axis.get_title()]
    assert noisy.origin == delay.origin == "lower"
    assert noisy.get_extent() == [0, 1, 0, 8]  # s and kHz
    rows = noisy.get_array().mean(1)
    assert rows.argmax() / len(rows) * 8 == pytest.approx(3, abs=0.05)
    assert rows.max() - rows.min() > 60  # dB
    wave = torch.rand(16000).numpy()
    louder = plots.spectrogram(10 * wave, 16000) - plots.spectrogram(wave, 16000)
    assert abs(louder - 20).max() < 0.1
    assert delay.get_extent() == [0, 1, 0, 6 * 16]  # s and ms
    assert abs(delay.get_array().sum(0) - 1).max() < 1e-5


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
