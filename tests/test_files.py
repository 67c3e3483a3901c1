"""Arrays and files through a model: values, alignment, formats, and files that are no good."""

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import CONFIG

import deepvqe_hub
from deepvqe_hub.atomic import atomic_write, check_writable
from deepvqe_hub.files import AudioFileError, enhance, enhance_file
from deepvqe_hub.files.audio import AudioInfo
from deepvqe_hub.files.blocks import Fifo, dry_share
from deepvqe_hub.files.output import written
from deepvqe_hub.files.samples import from_float
from deepvqe_hub.models import NETWORKS

RATE = 16000
SMALL = {
    "channels": [4, 6, 8, 4],
    "decoder_channels": [6, 4, 4],
    "encoder_residual": [False] * 4,
    "decoder_residual": [False, True, True, False],
    "hidden": 12,
}


def tiny(**options):
    torch.manual_seed(0)
    model = deepvqe_hub.EnhancementModel.from_config({"network": "DeepVQE", "options": {**SMALL, **options}}).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from the identity that an untrained network is
            parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def canceller():
    return tiny(farend_channels=[2, 4], align_hidden=4, dmax=20)


@pytest.fixture(scope="module")
def identity():
    """A model whose output is its input: what is left is what the file handling does."""
    model = deepvqe_hub.EnhancementModel.from_config({"network": "DeepVQE", "options": SMALL}).eval()
    conv = model.network.deblock1.deconv.conv
    torch.nn.init.zeros_(conv.weight)
    model.network.ccm.start_as_identity(conv)
    return model


def noise(seconds, channels=None, rate=RATE, seed=0):
    shape = (round(seconds * rate),) if channels is None else (round(seconds * rate), channels)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def whole(model, samples, farend=None):
    with torch.inference_mode():
        far = None if farend is None else torch.from_numpy(farend.T.copy())
        return model(torch.from_numpy(samples.T.copy()), far).numpy().T


# ---- arrays


def test_samples_wait_in_their_order():
    waiting = Fifo(1)
    for block in ([0, 1, 2], [3, 4], [5]):
        waiting.put(np.array(block, np.float32)[:, None])
    assert [waiting.get(count).ravel().tolist() for count in (2, 2, 0, 2)] == [[0, 1], [2, 3], [], [4, 5]]
    assert len(waiting) == 0


def test_block_by_block_equals_the_whole(model):
    samples = noise(9.3, 2)
    expected = whole(model, samples)
    assert np.abs(expected - samples).max() > 0.01  # the model does something
    np.testing.assert_allclose(enhance(model, samples, RATE), expected, atol=1e-5)
    tensor = torch.from_numpy(samples.T.copy())[None]  # (1, channels, time)
    np.testing.assert_allclose(enhance(model, tensor, RATE)[0].numpy().T, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "int8", "float64", "float16", ">i2"])
def test_types_come_back(model, dtype):
    samples, dtype = noise(0.5), np.dtype(dtype)
    half = 1 if dtype.kind == "f" else 1 << (8 * dtype.itemsize - 1)
    centre = half if dtype.kind == "u" else 0
    typed = (samples * half + centre).astype(dtype)
    out = enhance(model, typed, RATE)
    assert out.dtype == dtype and out.shape == typed.shape
    step = {1: 0.04, 2: 1e-3}.get(dtype.itemsize, 1e-5)
    np.testing.assert_allclose((out.astype(float) - centre) / half, whole(model, samples), atol=step)
    assert (enhance(model, typed, RATE, mix=0) == typed).all()


def test_a_network_in_half_precision_hears_float32(model):
    half, samples = copy.deepcopy(model).bfloat16(), noise(0.5)
    with torch.inference_mode():
        expected = half(torch.from_numpy(samples))
    out = enhance(half, samples, RATE)
    np.testing.assert_allclose(out, expected, atol=1e-2 * float(expected.abs().max()))  # another order of rounding
    assert not np.array_equal(out, torch.from_numpy(out).bfloat16().float())


def test_integers_clip(identity):
    square = np.where(np.arange(8000) % 40 < 20, 32767, -32768).astype(np.int16)
    out = enhance(identity, square, 48000)  # resampling overshoots
    assert (np.sign(out[200:-200]) == np.sign(square[200:-200])).mean() > 0.9


def test_integers_are_rounded():
    wave = np.array([0.6, -0.6, 0.4, 1.5, 2.5], np.float32) / 32768
    assert from_float(wave, np.dtype("int16")).tolist() == [1, -1, 0, 2, 2]


@pytest.mark.parametrize("subtype", ["ULAW", "IMA_ADPCM"])
def test_formats_that_would_wrap_are_clipped(tmp_path, subtype):
    loud = 1.7 * np.sin(0.1 * np.arange(8000, dtype=np.float32))[:, None]
    with written(tmp_path / "x.wav", AudioInfo(8000, 1, 8000, "WAV", subtype), overwrite=False) as write:
        write(loud)
    assert np.abs(np.diff(soundfile.read(tmp_path / "x.wav")[0])).max() < 1


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 16001])
def test_any_rate_keeps_length_and_time(identity, rate):
    for samples in (1, 2, 3, 100):
        assert enhance(identity, np.ones(samples), rate).shape == (samples,)
    # Band-limited noise, so that the model's rate loses nothing.
    white = noise(0.5, rate=rate)
    spectrum = np.fft.rfft(white)
    spectrum[np.fft.rfftfreq(len(white), 1 / rate) > 3000] = 0
    samples = np.fft.irfft(spectrum, len(white)) * np.hanning(len(white))
    out = enhance(identity, samples, rate)
    assert out.dtype == np.float64
    lag = np.argmax(np.correlate(out[500:-500], samples[500 - 20 : len(samples) - 500 + 20])[::-1]) - 20
    assert lag == 0
    np.testing.assert_allclose(out, samples, atol=2e-3)


def test_empty_and_other_shapes(model):
    assert enhance(model, np.zeros(0), RATE).shape == (0,)
    assert enhance(model, np.zeros((0, 2), np.int16), 8000).shape == (0, 2)
    assert enhance(model, torch.zeros(2, 3, 0), RATE).shape == (2, 3, 0)
    half = enhance(model, torch.zeros(2, 3, 500, dtype=torch.bfloat16), 8000)
    assert half.shape == (2, 3, 500) and half.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.array([0.0, np.nan]), "NaN"),
        (np.zeros((2, 48000)), "transpose"),
        (np.array(1.0), "shape"),
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros(5, bool), "bool"),
        (np.zeros(5, np.int64), "int64"),
        (torch.tensor(1.0), "shape"),
    ],
)
def test_what_is_no_audio(model, audio, message):
    with pytest.raises(ValueError, match=message):
        enhance(model, audio, RATE)


def test_mix_and_limit(model):
    samples = noise(1.0)
    wet = enhance(model, samples, RATE)
    np.testing.assert_allclose(enhance(model, samples, RATE, mix=0.25), 0.25 * wet + 0.75 * samples, atol=1e-6)
    limited = enhance(model, samples, RATE, attenuation_limit_db=20)
    np.testing.assert_allclose(limited, wet + 0.1 * (samples - wet), atol=1e-6)
    assert dry_share(1, None) == 0 and dry_share(0, 6) == 1 and dry_share(1, 0) == 1
    for wrong in ({"mix": 1.5}, {"mix": float("nan")}, {"attenuation_limit_db": -1}):
        with pytest.raises(ValueError, match="must"):
            enhance(model, samples, RATE, **wrong)


def test_far_end(model, canceller):
    mic, far = noise(5.0, 2), noise(5.0, 2, seed=1)
    np.testing.assert_allclose(enhance(canceller, mic, RATE, far), whole(canceller, mic, far), atol=1e-5)
    mono = far.mean(1, keepdims=True)
    expected = whole(canceller, mic, mono.repeat(2, 1))
    np.testing.assert_allclose(enhance(canceller, mic, RATE, mono[:, 0]), expected, atol=1e-5)
    padded = np.pad(far[:RATE], ((0, 4 * RATE), (0, 0)))
    with pytest.warns(UserWarning, match=r"farend is 4\.000 s shorter: padded"):
        out = enhance(canceller, mic, RATE, far[:RATE])
    np.testing.assert_allclose(out, whole(canceller, mic, padded), atol=1e-5)
    with pytest.warns(UserWarning, match="cut"):
        enhance(canceller, mic[:RATE], RATE, far)
    with pytest.raises(ValueError, match="echo-cancelling"):
        enhance(model, mic, RATE, far)


def test_network_that_cannot_stream(model, monkeypatch):
    samples = noise(6.0, 2)
    expected = whole(model, samples)
    monkeypatch.setattr(model.network, "streams", False, raising=False)
    np.testing.assert_allclose(enhance(model, samples, RATE), expected, atol=1e-5)
    assert enhance(model, samples[:, 0], 8000).shape == samples[:, 0].shape


# ---- files


def test_file_equals_the_whole(model, tmp_path):
    samples = noise(9.3, 2)
    soundfile.write(tmp_path / "in.wav", samples, RATE, subtype="FLOAT")
    heard = []
    enhance_file(model, tmp_path / "in.wav", tmp_path / "new" / "out.wav", progress=heard.append)
    out, rate = soundfile.read(tmp_path / "new" / "out.wav")
    assert rate == RATE and soundfile.info(tmp_path / "new" / "out.wav").subtype == "FLOAT"
    np.testing.assert_allclose(out, whole(model, samples), atol=1e-5)
    assert sum(heard) == pytest.approx(9.3)


@pytest.mark.parametrize(
    ("source", "rate", "subtype", "output", "expected"),
    [
        ("a.wav", 48000, "PCM_24", "b.wav", ("WAV", "PCM_24")),
        ("a.wav", 8000, "PCM_U8", "b.wav", ("WAV", "PCM_U8")),
        ("a.wav", 44100, "PCM_24", "b.flac", ("FLAC", "PCM_24")),
        ("a.wav", 44100, "FLOAT", "b.flac", ("FLAC", "PCM_24")),
        ("a.flac", 44100, "PCM_16", "b.ogg", ("OGG", "VORBIS")),
        ("a.ogg", 16000, "OPUS", "b.ogg", ("OGG", "OPUS")),
        ("a.mp3", 44100, "MPEG_LAYER_III", "b.mp3", ("MP3", "MPEG_LAYER_III")),
        ("a.mp3", 16000, "MPEG_LAYER_III", "b.wav", ("WAV", "PCM_16")),
        ("a.mp3", 48000, "MPEG_LAYER_III", "b.OPUS", ("OGG", "OPUS")),
        ("a.wav", 16000, "PCM_16", "b.aif", ("AIFF", "PCM_16")),
        ("a.flac", 16000, "PCM_16", "b", ("FLAC", "PCM_16")),
        ("a.caf", 16000, "ALAC_24", "b.wav", ("WAV", "PCM_24")),
        ("a.caf", 16000, "ALAC_16", "b.flac", ("FLAC", "PCM_16")),
    ],
)
def test_formats(model, tmp_path, source, rate, subtype, output, expected):
    samples = noise(1.37, 2, rate)
    soundfile.write(tmp_path / source, samples, rate, subtype=subtype)
    enhance_file(model, tmp_path / source, tmp_path / output)
    info = soundfile.info(tmp_path / output)
    assert (info.format, info.subtype, info.channels, info.samplerate) == (*expected, 2, rate)
    assert info.frames == len(samples)


@pytest.mark.parametrize(
    ("output", "kept"), [("b.wav", "Störung"), ("b.ogg", "Störung"), ("b.mp3", ""), ("b.au", None)]
)
def test_tags_stay(identity, tmp_path, output, kept):
    source = tmp_path / "a.flac"
    with soundfile.SoundFile(source, "w", 16000, 1) as file:
        file.title, file.artist, file.software = "Störung", "Somebody", "a recorder"
        file.write(0.1 * np.ones(8000))
    enhance_file(identity, source, tmp_path / output)
    tags = soundfile.SoundFile(tmp_path / output).copy_metadata()
    assert tags.get("title") == kept  # an AU file holds no tags, an MP3 file only those that libsndfile does not garble
    assert tags.get("artist") == (None if output == "b.au" else "Somebody")
    assert "a recorder" not in tags.get("software", "")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "FLOAT"])
def test_unmixed_is_exact(model, tmp_path, subtype):
    soundfile.write(tmp_path / "in.wav", 3 * noise(1.0), RATE, subtype=subtype)
    enhance_file(model, tmp_path / "in.wav", tmp_path / "out.wav", mix=0)
    before, after = (soundfile.read(tmp_path / name)[0] for name in ("in.wav", "out.wav"))
    assert np.abs(before - after).max() < 2**-24


def test_bytes_and_file_objects(model, tmp_path):
    soundfile.write(tmp_path / "in.flac", noise(1.0), RATE)
    enhance_file(model, tmp_path / "in.flac", tmp_path / "path.wav")
    data = (tmp_path / "in.flac").read_bytes()
    enhance_file(model, data, tmp_path / "bytes.wav")
    stream = io.BytesIO(data)
    enhance_file(model, stream, tmp_path / "stream.wav")
    assert not stream.closed
    results = {(tmp_path / name).read_bytes() for name in ("path.wav", "bytes.wav", "stream.wav")}
    assert len(results) == 1


def test_long_lossy_output(identity, tmp_path):
    soundfile.write(tmp_path / "in.flac", noise(9.0, rate=48000), 48000)
    enhance_file(identity, tmp_path / "in.flac", tmp_path / "out.ogg", mix=0)
    assert soundfile.info(tmp_path / "out.ogg").frames == 9 * 48000


def broken_files(folder):
    """Files that cannot be enhanced, and what the error says."""
    soundfile.write(folder / "good.wav", noise(2.0, 2), RATE)
    soundfile.write(folder / "good.flac", noise(2.0, 2), RATE)
    soundfile.write(folder / "good.mp3", noise(9.0), RATE)
    soundfile.write(folder / "good.ogg", noise(2.0), RATE)
    for name in ("good.wav", "good.flac", "good.mp3", "good.ogg"):
        data = (folder / name).read_bytes()
        (folder / name.replace("good", "cut")).write_bytes(data[: len(data) // 2])
        (folder / name).unlink()
    (folder / "zero.wav").write_bytes(b"")
    soundfile.write(folder / "nothing.wav", noise(0.0), RATE)
    (folder / "text.wav").write_text("this is no sound\n" * 100)
    (folder / "raw.raw").write_bytes(bytes(1000))
    soundfile.write(folder / "nan.wav", np.array([0.0] * 100 + [np.nan]), RATE, subtype="FLOAT")
    soundfile.write(folder / "garbled.wav", np.array([0.0] * 100 + [3e38]), RATE, subtype="FLOAT")
    return {
        "cut.wav": "truncated",
        "cut.flac": "damaged|truncated",
        "cut.mp3": "truncated",
        "cut.ogg": "no samples, or breaks off",
        "zero.wav": "empty",
        "nothing.wav": "no samples",
        "text.wav": "not an audio file",
        "raw.raw": "not an audio file",
        "nan.wav": "NaN",
        "garbled.wav": "beyond 1e\\+30 after 0.006 s",
        ".": "folder",
    }


def test_broken_sources(model, tmp_path):
    for name, message in broken_files(tmp_path).items():
        with pytest.raises(AudioFileError, match=message) as caught:
            enhance_file(model, tmp_path / name, tmp_path / "out" / "out.wav")
        assert str(tmp_path / name) in str(caught.value)
        assert not list(tmp_path.glob("out/*")) and not list(tmp_path.glob("out/.*"))
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        enhance_file(model, tmp_path / "missing.wav", tmp_path / "out.wav")


def test_wav_of_unknown_length(model, tmp_path):
    """Programs that write into a pipe cannot go back and fill in the length."""
    soundfile.write(tmp_path / "in.wav", noise(1.0), RATE)
    data = bytearray((tmp_path / "in.wav").read_bytes())
    for length in (b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"):
        data[4:8] = data[40:44] = length
        enhance_file(model, bytes(data), tmp_path / "out.wav", overwrite=True)
        assert soundfile.info(tmp_path / "out.wav").frames == RATE


def test_flac_of_unknown_length(identity, tmp_path):
    soundfile.write(tmp_path / "in.flac", noise(9.0), RATE)
    data = bytearray((tmp_path / "in.flac").read_bytes())
    data[21] &= 0xF0  # the 36 bits of the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(data)
    for source in (tmp_path / "piped.flac", bytes(data), io.BytesIO(data)):
        enhance_file(identity, source, tmp_path / "out.wav", mix=0, overwrite=True)
        assert soundfile.info(tmp_path / "out.wav").format == "WAV"
        np.testing.assert_array_equal(*(soundfile.read(tmp_path / name)[0] for name in ("out.wav", "in.flac")))
    with pytest.raises(AudioFileError, match="damaged after"):
        enhance_file(identity, bytes(data[: len(data) // 2]), tmp_path / "cut.wav")


@pytest.mark.parametrize("output", ["out.xyz", "out.raw", "out.opus", "out.mp3"])
def test_outputs_that_cannot_be(model, tmp_path, output):
    soundfile.write(tmp_path / "in.wav", noise(0.5, 3, 44100), 44100)  # too many channels for mp3, no rate of opus
    with pytest.raises(AudioFileError, match="cannot write"):
        enhance_file(model, tmp_path / "in.wav", tmp_path / output)
    assert os.listdir(tmp_path) == ["in.wav"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_all_or_nothing(model, tmp_path, monkeypatch, error):
    soundfile.write(tmp_path / "in.wav", noise(9.0), RATE)
    (tmp_path / "out.wav").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        enhance_file(model, tmp_path / "in.wav", tmp_path / "out.wav")

    def interrupted(_):
        assert len(list(tmp_path.iterdir())) == 3  # the temporary one is there
        raise error("in the middle")

    with pytest.raises(error):
        enhance_file(model, tmp_path / "in.wav", tmp_path / "out.wav", overwrite=True, progress=interrupted)
    assert sorted(os.listdir(tmp_path)) == ["in.wav", "out.wav"]
    assert (tmp_path / "out.wav").read_bytes() == b"precious"
    enhance_file(model, tmp_path / "in.wav", tmp_path / "in.wav", overwrite=True)  # in place
    assert soundfile.info(tmp_path / "in.wav").frames == 9 * RATE


@pytest.mark.skipif(os.name == "nt", reason="limits of processes")
@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.ogg", "out.opus", "out.mp3"])
def test_full_disk(identity, tmp_path, name):
    """Also where only the last bytes do not fit, which encoders write when the file is closed; what fits is written."""
    import resource

    soundfile.write(tmp_path / "in.wav", noise(2.0), RATE)
    enhance_file(identity, tmp_path / "in.wav", tmp_path / name)
    size = (tmp_path / name).stat().st_size
    os.unlink(tmp_path / name)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (size // 2, size - 2000, size - 10, size - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(OSError, match=rf"{name}: writing failed"):
                enhance_file(identity, tmp_path / "in.wav", tmp_path / name)
            assert os.listdir(tmp_path) == ["in.wav"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1, before[1]))
        enhance_file(identity, tmp_path / "in.wav", tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / name).stat().st_size == size


def test_output_that_is_no_file(model, tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(0.5), RATE)
    with pytest.raises(FileExistsError, match="not a regular file"):
        enhance_file(model, tmp_path / "in.wav", os.devnull, overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="links and permissions")
def test_links_and_permissions_stay(model, tmp_path):
    link, target = tmp_path / "link.wav", tmp_path / "new" / "target.wav"
    soundfile.write(tmp_path / "in.wav", noise(0.5), RATE)
    link.symlink_to(target)
    enhance_file(model, tmp_path / "in.wav", link)  # it leads to nothing yet
    enhanced = target.read_bytes()

    def interrupted(_):
        (part,) = target.parent.glob(".*.part")
        assert part.stat().st_mode & 0o777 == 0o600  # not to be read by others in the meantime
        raise RuntimeError("in the middle")

    for mode in (0o600, 0o400, 0o660):
        target.chmod(0o600)
        target.write_bytes(b"precious")
        target.chmod(mode)
        if mode != 0o660:
            with pytest.raises(RuntimeError):
                enhance_file(model, tmp_path / "in.wav", link, overwrite=True, progress=interrupted)
            assert target.read_bytes() == b"precious"
        enhance_file(model, tmp_path / "in.wav", link, overwrite=True)
        assert link.is_symlink() and target.read_bytes() == enhanced and target.stat().st_mode & 0o777 == mode
    assert os.listdir(target.parent) == ["target.wav"]
    assert sorted(os.listdir(tmp_path)) == ["in.wav", "link.wav", "new"]


def test_a_file_where_a_folder_should_be(model, tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(0.5), RATE)
    for name in ("out.wav", "further/out.wav"):
        with pytest.raises(NotADirectoryError, match="a part of that path is a file; name another"):
            enhance_file(model, tmp_path / "in.wav", tmp_path / "in.wav" / name)
    with pytest.raises(NotADirectoryError, match="a part of that path is a file; name another"):
        model.save_pretrained(tmp_path / "in.wav" / "checkpoint")
    assert os.listdir(tmp_path) == ["in.wav"]


def test_a_folder_where_a_file_should_be(model, tmp_path):
    for source in ("in.wav", "no.wav"):
        with pytest.raises(IsADirectoryError, match="new/ names a folder; add the name of a file"):
            enhance_file(model, tmp_path / source, f"{tmp_path}/new/")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"), atomic_write(tmp_path, overwrite=True):
        raise AssertionError("nothing is to be written")
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_where_a_file_should_be(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="not a regular file"), atomic_write(tmp_path / "pipe", overwrite=True):
        raise AssertionError("nothing is to be written")
    assert (tmp_path / "pipe").is_fifo()


def test_results_do_not_go_to_a_file_called_like_standard_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="standard output; name a file"):
        check_writable([Path("a.csv"), Path("-")], overwrite=True)
    check_writable([tmp_path / "-"], overwrite=True)


def test_reading_needs_no_torch(tmp_path):
    """Nor does scoring what is read: processes start sooner and take less memory."""
    soundfile.write(tmp_path / "a.wav", noise(0.5), RATE)
    code = f"""
import sys
sys.modules["torch"] = None  # any import of it now fails
from deepvqe_hub import files, metrics
from deepvqe_hub.files.audio import Recording
with Recording({str(tmp_path / "a.wav")!r}) as recording:
    assert sum(map(len, recording.blocks())) == {RATE // 2}
assert issubclass(files.AudioFileError, ValueError)
score = metrics.evaluate_file({str(tmp_path / "a.wav")!r}, {str(tmp_path / "a.wav")!r}, metrics="si_sdr")
assert score["si_sdr"] == 100, score
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_far_end_file_of_other_rate_and_length(canceller, tmp_path):
    mic, far = noise(6.0), noise(6.0, 1, seed=1)
    soundfile.write(tmp_path / "mic.wav", mic, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "far.wav", far, RATE, subtype="FLOAT")
    import soxr

    soundfile.write(tmp_path / "far48.wav", soxr.resample(far, RATE, 48000), 48000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", far[: 2 * RATE], RATE, subtype="FLOAT")
    expected = whole(canceller, mic[:, None], far)[:, 0]
    for name, tolerance in (("far.wav", 1e-5), ("far48.wav", 0.02)):
        enhance_file(canceller, tmp_path / "mic.wav", tmp_path / "out.wav", tmp_path / name, overwrite=True)
        np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav")[0], expected, atol=tolerance)
    with pytest.warns(UserWarning, match=r"short.wav is 4\.000 s shorter: padded"):
        enhance_file(canceller, tmp_path / "mic.wav", tmp_path / "short_out.wav", tmp_path / "short.wav")
    padded = np.pad(far[: 2 * RATE], ((0, 4 * RATE), (0, 0)))
    out = soundfile.read(tmp_path / "short_out.wav")[0]
    np.testing.assert_allclose(out, whole(canceller, mic[:, None], padded)[:, 0], atol=1e-5)
    with pytest.raises(AudioFileError, match=r"zero\.wav: empty"):
        (tmp_path / "zero.wav").write_bytes(b"")
        enhance_file(canceller, tmp_path / "mic.wav", tmp_path / "none.wav", tmp_path / "zero.wav")


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Whole, five minutes take this network 1.4 GB; the signal itself is 19 MB."""
    pytest.importorskip("resource")
    for seconds in (10, 300):
        with soundfile.SoundFile(tmp_path / f"{seconds}.wav", "w", 16000, 1) as file:
            for second in range(seconds):
                file.write(np.random.default_rng(second).uniform(-0.1, 0.1, 16000))
    unit = 1 if sys.platform == "darwin" else 1024
    code = f"""
import resource, torch, deepvqe_hub
torch.set_num_threads(1)
model = deepvqe_hub.EnhancementModel.from_config({CONFIG}).eval()
def peak():
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * {unit} / 1e6)
for seconds in (10, 300):
    deepvqe_hub.enhance_file(model, f"{{seconds}}.wav", f"{{seconds}}.out.wav")
    peak()
with torch.inference_mode():
    model(torch.rand(300 * 16000) / 10)
peak()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    short, long, tensor = map(float, done.stdout.split())
    assert long - short < 30 and tensor - long < 120


def test_parts_of_a_model_keep_their_mode():
    options = {"blocks": 2, "channels": 8, "hidden": 8, "heads": 2}
    model = deepvqe_hub.EnhancementModel("TFGridNet", options).train()
    model.network.blocks[0].eval()
    before = [module.training for module in model.modules()]
    enhance(model, np.zeros(2000, np.float32), RATE)
    assert [module.training for module in model.modules()] == before and True in before and False in before


def test_a_network_without_weights(monkeypatch):
    class Half(torch.nn.Module):
        streams, farend, bins = True, False, 257

        def __init__(self, bins=257):
            super().__init__()

        def forward(self, spec, farend=None, state=None):
            return spec / 2, {}

        def for_inference(self):
            return self

    monkeypatch.setitem(NETWORKS, "Half", Half)
    model, wave = deepvqe_hub.EnhancementModel("Half").eval(), torch.rand(3000) - 0.5
    stream = model.stream()
    assert torch.allclose(torch.cat([stream(wave), stream.flush()]), wave / 2, atol=1e-6)
    np.testing.assert_allclose(enhance(model, wave.numpy(), RATE), wave.numpy() / 2, atol=1e-6)
