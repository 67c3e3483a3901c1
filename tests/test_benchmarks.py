"""What the benchmarks read."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delitem(sys.modules, "common", raising=False)
    import common

    yield common
    del sys.modules["common"]


def test_recordings_are_found_and_read(common, tmp_path):
    (tmp_path / "b").mkdir()
    for name, channels, rate in (("b/mono.flac", 1, 16000), ("slow.wav", 1, 8000), ("stereo.WAV", 2, 16000)):
        soundfile.write(tmp_path / name, np.full((800, channels), 0.5), rate)
    (tmp_path / "text.txt").write_text("no audio")
    names = common.find(tmp_path)
    assert [str(name) for name in names] == ["b/mono.flac", "slow.wav", "stereo.WAV"]
    assert common.find(tmp_path, 1) == names[:1]
    wave = common.read_mono(tmp_path / names[0], 16000)
    assert wave.shape == (800,) and wave.dtype == np.float32
    for name, words in ((names[1], r"1 channel\(s\) at 8000 Hz"), (names[2], r"2 channel\(s\) at 16000 Hz")):
        with pytest.raises(SystemExit, match=words):
            common.read_mono(tmp_path / name, 16000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no sound files"):
        common.find(tmp_path / "empty")
