"""What libsndfile would leave unread: the end of MP3 files of unknown length, joined recordings, lengths not kept."""

import io

import numpy as np
import pytest
import soundfile

from deepvqe_hub.data import find_clips, write_shards
from deepvqe_hub.data.shards import find_shard_clips
from deepvqe_hub.files.audio import AudioFileError, Recording

RATE = 16000
ID3V1 = b"TAG" + b"Morning".ljust(125, b"\0")
ID3V2 = b"ID3\3\0\0\0\0\2\0" + b"TIT2\0\0\0\x08\0\0\0Evening".ljust(256, b"\0")  # seven bits of size a byte
APE = b"APETAGEX" + bytes(24)


def encoded(kind, loudness=(0.3,) * 10, **options):
    """A sound file of noise, a loudness for each second."""
    wave = np.repeat(loudness, RATE) * np.random.default_rng(0).standard_normal(len(loudness) * RATE)
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format=kind, **options)
    return file.getvalue()


def mp3(*loudness, mode="VARIABLE"):
    return encoded("MP3", loudness, bitrate_mode=mode, compression_level=0.3)


def untagged(data):
    """An MP3 file without its first frame, which counts the others."""
    return data[data.index(data[:2], 100) :]


LOUD_FIRST, QUIET_FIRST = mp3(0.3, *[0.0003] * 9), mp3(*[0] * 5, *[0.3] * 5)


@pytest.mark.parametrize(
    ("before", "after", "title"),
    [(b"", bytes(5000), None), (b"", ID3V1, "Morning"), (2 * ID3V2, b"", "Evening"), (ID3V2, APE + ID3V1, "Evening")],
)
@pytest.mark.parametrize("whole", [LOUD_FIRST, QUIET_FIRST, mp3(*[0.3] * 10, mode="CONSTANT")])
def test_mp3_of_unknown_length_is_read_whole(whole, before, after, title, tmp_path):
    data = before + untagged(whole) + after
    (tmp_path / "a.mp3").write_bytes(data)
    decoded = soundfile.read(io.BytesIO(whole), dtype="float32")[0]
    for source in (tmp_path / "a.mp3", data, io.BytesIO(data)):
        with Recording(source) as recording:
            wave = np.concatenate(list(recording.blocks()))[:, 0]
            assert len(wave) == recording.frames
            assert recording.info.tags.get("title") == title
    assert 0 < len(wave) - len(decoded) < 3 * 1152  # delays of encoder and decoder, which the first frame tells
    likeness = np.correlate(wave, decoded[-RATE:])
    assert likeness.max() > 0.99 * np.square(decoded[-RATE:]).sum()


@pytest.mark.parametrize("whole", [LOUD_FIRST, QUIET_FIRST])
def test_clips_for_training_have_their_true_length(whole, tmp_path):
    (tmp_path / "told.mp3").write_bytes(whole)
    (tmp_path / "untold.mp3").write_bytes(untagged(whole))
    write_shards(read := {clip.path: clip for clip in find_clips(tmp_path)}, tmp_path / "shards")
    for told, untold in (read.values(), find_shard_clips(tmp_path / "shards")):
        assert told.duration == 10 and 10 < untold.duration < 10.3
        expected = told.read(RATE, 9 * RATE, RATE // 2)[0]
        likeness = np.correlate(untold.read(RATE, 9 * RATE)[0], expected)
        assert likeness.max() > 0.99 * np.square(expected).sum()


def test_a_damaged_mp3_of_unknown_length():
    data = untagged(LOUD_FIRST)
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    for place in (8000, 20000, len(data) - 8000):
        with pytest.raises(AudioFileError, match=r"damaged after \d.* ffmpeg"):
            Recording(data[:place] + noise + data[place + 4000 :])


def test_an_mp3_that_lacks_its_last_thirtieth():
    with pytest.raises(AudioFileError, match="truncated"), Recording(LOUD_FIRST[: -len(LOUD_FIRST) // 30]) as recording:
        list(recording.blocks())


@pytest.mark.parametrize("between", [b"", ID3V1, ID3V2, ID3V1 + ID3V2])
def test_joined_mp3(between, tmp_path):
    for first in (LOUD_FIRST, ID3V2 + QUIET_FIRST):
        (tmp_path / "a.mp3").write_bytes(first + between + LOUD_FIRST)
        with pytest.raises(AudioFileError, match=r"a\.mp3: several recordings joined in one file.* ffmpeg"):
            Recording(tmp_path / "a.mp3")
        for after in (between, APE + bytes(5000)):
            with Recording(first + after) as recording:
                assert sum(map(len, recording.blocks())) == 10 * RATE


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_joined_ogg(codec):
    short, other, long = (encoded("OGG", [0.3] * seconds, subtype=codec) for seconds in (1, 1, 30))
    for data in (short + other, short + long, long + short):
        with pytest.raises(AudioFileError, match=r"several recordings joined in one file.* ffmpeg"):
            Recording(data)
    for data in (short, long):
        with Recording(data) as recording:
            assert sum(map(len, recording.blocks())) == recording.frames


def promising(size, kind):
    """A short sound file whose header promises `size` bytes of samples."""
    data, samples = bytearray(encoded(kind, (0.1,), subtype="PCM_16")), 2 * RATE
    order, width = ("big" if kind == "AIFF" else "little"), (8 if kind in ("RF64", "W64") else 4)
    for place in range(len(data) - samples):  # also of the whole file, beside that of the samples
        number = int.from_bytes(data[place : place + width], order)
        if samples <= number <= len(data):
            data[place : place + width] = min(number - samples + size, (1 << 8 * width) - 1).to_bytes(width, order)
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("WAV", (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF)),
        ("AIFF", (0x7F000000, 0xFFFFFFFF)),
        ("RF64", ((1 << 63) - 100,)),
    ],
)
def test_lengths_that_stand_for_unknown_ones(kind, sizes, tmp_path):
    for size in sizes:
        (tmp_path / "piped").write_bytes(promising(size, kind))
        with Recording(tmp_path / "piped") as recording:
            assert sum(map(len, recording.blocks())) == RATE


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "RF64", "W64"])
def test_large_files_that_break_off(kind):
    most = 2**62 if kind in ("RF64", "W64") else 2**32
    for size in (10**6, 2_100_000_000, 2_200_000_000, 3_000_000_000, 4_200_000_000, 5_000_000_000):
        if size < most:
            with pytest.raises(AudioFileError, match="truncated"):
                Recording(promising(size, kind))


def test_a_nist_file_that_breaks_off(tmp_path):
    """As TIMIT's, which are called .wav. Its header counts the samples of a channel."""
    stereo = io.BytesIO()
    soundfile.write(stereo, np.full((RATE, 2), 0.1), RATE, format="NIST", subtype="PCM_16")
    for data in (encoded("NIST", (0.1,)), stereo.getvalue()):
        (tmp_path / "whole.wav").write_bytes(data)
        (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
        for source in (tmp_path / "whole.wav", data, data.replace(b"sample_count", b"sample_cound")):
            with Recording(source) as recording:
                assert sum(map(len, recording.blocks())) == RATE
        for source in (tmp_path / "cut.wav", data[: len(data) // 2], data[:-2]):
            with pytest.raises(AudioFileError, match=r"truncated, [\d,]+ of 16,000 samples"):
                Recording(source)


@pytest.mark.parametrize(
    ("kind", "subtype"), [(kind, "PCM_16") for kind in ("W64", "CAF", "PVF", "MAT5")] + [("PVF", "PCM_S8")]
)
def test_a_header_before_the_samples_and_among_them(kind, subtype, tmp_path):
    """As sox writes these formats into a pipe: what libsndfile knows at the beginning, and again what it knows then."""
    data = encoded(kind, (0.1,), subtype=subtype)
    header = encoded(kind, (), subtype=subtype)
    (tmp_path / "piped").write_bytes(header + data)
    for source in (tmp_path / "piped", header + data):
        with pytest.raises(AudioFileError, match=r"written into a pipe.* write it to a file"):
            Recording(source)
    with Recording(data) as recording:
        assert sum(map(len, recording.blocks())) == RATE


def test_caf_without_a_length():
    """As ffmpeg writes it into a pipe."""
    data = encoded("CAF", (0.1,), subtype="PCM_16")
    place = data.index(b"data") + 4
    with pytest.raises(AudioFileError, match=r"CAF that ffmpeg wrote into a pipe, convert it.* ffmpeg"):
        Recording(data[:place] + b"\xff" * 8 + data[place + 8 :])


def test_rf64_without_a_length():
    """As ffmpeg writes it into a pipe; sox reads such files to the end."""
    data = bytearray(encoded("RF64", (0.1,), subtype="PCM_16"))
    data[20:48] = bytes(28)
    with pytest.raises(AudioFileError, match=r"wrote into a pipe.* sox --ignore-length"):
        Recording(bytes(data))


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_an_ogg_file_that_breaks_off(codec, tmp_path):
    """Of a long one libsndfile reads what is left as if it were all."""
    data = encoded("OGG", [0.3] * 20, subtype=codec)
    last = data.rindex(b"OggS\0")
    for size in (len(data) // 2, last + 12, last + 30, len(data) - 1):
        (tmp_path / "cut.ogg").write_bytes(data[:size])
        for source in (tmp_path / "cut.ogg", data[:size]):
            with pytest.raises(AudioFileError, match=r"truncated, only [\d,]+ samples are there.* ffmpeg"):
                Recording(source)
    for whole in (data, data + ID3V1, data[:last]):  # the last as of a live recording that was stopped from outside
        with Recording(whole) as recording:
            assert recording.frames > 10 * RATE and sum(map(len, recording.blocks())) == recording.frames


def test_a_caf_file_that_lacks_its_last_bytes():
    """Of which libsndfile overlooks eleven."""
    data = encoded("CAF", (0.1,), subtype="PCM_16")
    for missing in (1, 11, 12, 100):
        with pytest.raises(AudioFileError, match="truncated"):
            Recording(data[:-missing])
    with Recording(data + bytes(100)) as recording:
        assert sum(map(len, recording.blocks())) == RATE


def test_gsm_in_wav_is_whole():
    """Of an odd number of bytes libsndfile says that it seems to be truncated."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(51 * 320), RATE, format="WAV", subtype="GSM610")
    with Recording(file.getvalue()) as recording:
        assert sum(map(len, recording.blocks())) == recording.frames >= 51 * 320


@pytest.mark.parametrize("kind", ["SVX", "VOC", "MAT4"])
def test_old_formats_that_break_off(kind):
    data = encoded(kind, (0.1,), subtype="PCM_16")
    with Recording(data) as recording:
        assert sum(map(len, recording.blocks())) == RATE
    for size in (len(data) // 2, len(data) - 4):
        with pytest.raises(AudioFileError, match="truncated"):
            Recording(data[:size])
