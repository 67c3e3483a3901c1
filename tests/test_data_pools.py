"""Reading and drawing: pools, broken files, manifests, shards."""

import errno
import itertools
import json
import os
import sys
import tarfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepvqe_hub.data import (
    AudioPool,
    EchoRecordings,
    NoisySpeech,
    RoomPool,
    manifests,
    read_manifest,
    scan,
    write_shards,
)
from deepvqe_hub.data.clips import Clip, find_clips
from deepvqe_hub.data.grouping import group_of
from deepvqe_hub.data.manifests import read_pools, write_manifests
from deepvqe_hub.data.recordings import FOLDERS
from deepvqe_hub.data.threads import THREADS, each

RATE = 16000


def write(path, audio, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)
    return path


@pytest.fixture
def speech_folder(tmp_path):
    rng = np.random.default_rng(0)
    for speaker in ("anna", "ben"):
        for k in range(3):
            write(tmp_path / "clean" / speaker / f"{k}.flac", 0.1 * rng.standard_normal(RATE * (k + 1) // 2))
    return tmp_path / "clean"


def test_find_clips_gives_durations_and_speakers(speech_folder):
    pool = AudioPool.from_folder(speech_folder)
    assert len(pool) == 6
    assert pool.speakers == ["anna", "ben"]
    assert pool.hours * 3600 == pytest.approx(6.0)


def test_links_to_folders_are_followed(speech_folder, tmp_path):
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "clara").symlink_to(speech_folder / "anna", target_is_directory=True)
    assert AudioPool.from_folder(tmp_path / "joined").speakers == ["clara"]


def test_links_in_circles_end_and_nothing_comes_twice(speech_folder):
    (speech_folder / "anna" / "up").symlink_to(speech_folder, target_is_directory=True)
    for name in ("an-alias", "anna-again"):
        (speech_folder / name).symlink_to(speech_folder / "anna", target_is_directory=True)
    pool = AudioPool.from_folder(speech_folder)
    assert len(pool) == 6 and pool.speakers == ["anna", "ben"]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(speech_folder, monkeypatch):
    def scandir(path, list_folder=os.scandir):
        if str(path).endswith(("ben", "lost+found")):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match=r"make the folder readable.*ben"):
        AudioPool.from_folder(speech_folder)
    (speech_folder / "ben").rename(speech_folder / ".ben")
    (speech_folder / "lost+found").mkdir()  # of each disk with ext4; none but root can list it
    assert len(AudioPool.from_folder(speech_folder)) == 3


def test_an_error_leaves_most_files_alone():
    """As Ctrl-C does: on a slow disk the rest would take long."""
    seen = []

    def look(number):
        seen.append(number)
        if number == 0:
            raise PermissionError(errno.EACCES, "not yours")
        time.sleep(0.01)

    with pytest.raises(PermissionError, match="not yours"):
        each(look, range(20000))
    assert len(seen) < 1000


def test_files_are_looked_at_several_at_a_time(manifest, tmp_path, monkeypatch):
    """Each would wait for the answer of a network file system, be it for its length, its size or its place in a tar."""

    def together(function):
        def met(*arguments, **options):
            meeting.wait()
            return function(*arguments, **options)

        return met

    for number in (4, 5):
        write_shards(manifest, tmp_path / "shards", clips_per_shard=3 * number, prefix=f"s{number}")
    for folder in FOLDERS.values():
        for number in range(2):
            write(tmp_path / "echo" / folder / f"x_fileid_{number}.wav", np.full(RATE // 10, 0.1))
    for name in ("clean/train/a", "clean/valid/b", "noise/train/c", "noise/valid/d"):
        write(tmp_path / "data" / f"{name}.wav", np.full(RATE // 10, 0.1))
    unnoted = {key: {"wav": clip.path} for key, clip in read_manifest(manifest).items()}
    (tmp_path / "unnoted.json").write_text(json.dumps(unnoted))
    meeting = threading.Barrier(2, timeout=10)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", together(tarfile.open))
        assert len(AudioPool.from_shards(tmp_path / "shards")) == 12
    with monkeypatch.context() as patch:
        patch.setattr(Clip, "measured", together(Clip.measured))
        assert len(EchoRecordings(tmp_path / "echo", segment_seconds=0.05)) == 2
        assert len(read_manifest(tmp_path / "unnoted.json")) == 6
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "_signature", together(manifests._signature))
        patch.setattr(manifests, "_split", None)
        with pytest.raises(TypeError):  # once the files are known
            write_manifests(tmp_path / "data", tmp_path / "made")


def test_a_speaker_without_a_readable_file_is_given_up(speech_folder):
    write(speech_folder / "clara" / "0.wav", np.full(RATE, np.nan), subtype="FLOAT")
    pool = AudioPool.from_folder(speech_folder)
    with pytest.warns(UserWarning, match="clara"):
        assert pool.speech(np.random.default_rng(0), RATE, speaker="clara").any()


def test_cache_and_disk_give_the_same(speech_folder):
    disk = AudioPool.from_folder(speech_folder)
    memory = AudioPool.from_folder(speech_folder, cache=True).preload(threads=2)
    for seed in range(4):
        a = disk.speech(np.random.default_rng(seed), 3 * RATE)
        b = memory.speech(np.random.default_rng(seed), 3 * RATE)
        np.testing.assert_allclose(a, b, atol=2 / 32767)


@pytest.mark.parametrize("cache", [False, True])
def test_of_several_channels_the_first_is_taken(tmp_path, cache):
    pool = AudioPool([write(tmp_path / "stereo.wav", np.full((RATE, 2), (0.1, 0.4)))], cache=cache)
    np.testing.assert_allclose(pool.read(0, 10, 100), np.full(100, 0.1), atol=1e-4)


def test_speech_starts_after_the_lead_and_has_pauses(speech_folder):
    audio = AudioPool.from_folder(speech_folder).speech(np.random.default_rng(1), 4 * RATE, lead=RATE, pause=(0.2, 0.3))
    assert audio.shape == (4 * RATE,) and audio.dtype == np.float32
    assert not audio[:RATE].any() and audio[RATE : RATE + 800].any()
    assert (audio[RATE:].reshape(-1, 800) == 0).all(1).any(), "no pause of 50 ms"


def test_noise_loops_without_a_level_dip(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2)
    pool = AudioPool([write(tmp_path / "n.wav", noise)])
    audio = pool.noise(np.random.default_rng(0), 4 * RATE)
    power = np.square(audio.reshape(-1, 400)).mean(1)
    assert power.min() > 0.7 * power.mean()


def test_resampled_on_reading(tmp_path):
    time = np.arange(48000) / 48000
    pool = AudioPool([write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), 48000)])
    audio = pool.read(0, 4000, 8000)
    assert len(audio) == 8000
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(4000, 12000) / RATE)
    np.testing.assert_allclose(audio[200:-200], expected[200:-200], atol=2e-3)


def test_stretches_and_pauses_at_another_rate(tmp_path):
    ramp = write(tmp_path / "ramp.wav", np.linspace(0.5, 0.9, 48000), 48000)
    pool, rng = AudioPool([ramp], 48000), np.random.default_rng(0)
    starts = [pool.noise(rng, 4800)[0] for _ in range(200)]
    assert np.histogram(starts, 4, (0.5, 0.86))[0].min() > 30, "anywhere in the file"
    talk = pool.speech(rng, 480000, pause=(0.5, 0.5))
    edges = np.flatnonzero(np.diff((talk != 0).astype(int)))
    assert np.diff(edges).min() == pytest.approx(24000, abs=2), "half a second"


@pytest.mark.parametrize("cache", [False, True])
def test_broken_file_is_skipped_with_a_warning(speech_folder, cache):
    (speech_folder / "anna" / "broken.flac").write_bytes(b"not audio at all")
    pool = AudioPool.from_folder(speech_folder, cache=cache)
    with pytest.warns(UserWarning, match="broken.flac") as caught:
        for seed in range(60):
            assert np.isfinite(pool.speech(np.random.default_rng(seed), RATE)).all()
    assert len(caught) == 1, "one warning a file"


def test_only_broken_files_is_an_error(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"nothing")
    pool = AudioPool([tmp_path / "a.wav"])
    with pytest.warns(UserWarning, match="a.wav"), pytest.raises(ValueError, match="could not be read"):
        pool.noise(np.random.default_rng(0), 100)


def test_balance_weighs_speakers(tmp_path):
    for k in range(9):
        write(tmp_path / "often" / f"{k}.wav", np.ones(RATE) * 0.1)
    write(tmp_path / "seldom" / "0.wav", np.ones(RATE) * 0.1)
    share = {}
    for balance in (0.0, 1.0):
        pool, rng = AudioPool.from_folder(tmp_path, balance=balance), np.random.default_rng(0)
        share[balance] = np.mean([pool.draw_speaker(rng) == "seldom" for _ in range(500)])
    assert share[0.0] == pytest.approx(0.5, abs=0.08) and share[1.0] == pytest.approx(0.1, abs=0.05)
    assert pool.draw_speaker(rng, avoid="often") == "seldom"


def test_room_channels_are_aligned(tmp_path):
    late = np.zeros(4000)
    late[[500, 900]] = -0.8, 0.2
    ready = np.zeros((4000, 3))
    ready[32], ready[700, 0] = 0.5, 0.9  # a reflection stronger than the direct path stays where it is
    write(tmp_path / "a.wav", late)
    write(tmp_path / "b.flac", ready)
    pool = RoomPool.from_folder(tmp_path, seconds=0.2)
    shifted, kept = (pool._load(index) for index in range(2))
    assert shifted.shape == kept.shape == (3, 3200)
    np.testing.assert_allclose(shifted[:, 32], 0.5, atol=1e-3)
    np.testing.assert_allclose(shifted[:, 432], -0.125, atol=1e-3)
    np.testing.assert_allclose(kept[:, 32], 0.5, atol=1e-3)
    assert kept[0, 700] > 0.85


@pytest.fixture
def manifest(speech_folder):
    entries = {
        f"{path.parent.name}/{path.stem}": {
            "wav": f"{{data_root}}/clean/{path.parent.name}/{path.name}",
            "duration": soundfile.info(path).duration,
            "speaker": path.parent.name,
        }
        for path in sorted(speech_folder.rglob("*.flac"))
    }
    path = speech_folder.parent / "train.json"
    path.write_text(json.dumps(entries))
    return path


def test_shards_equal_files(manifest, tmp_path):
    shards = write_shards(manifest, tmp_path / "shards", clips_per_shard=4)
    assert [shard.name for shard in shards] == ["shard-000000.tar", "shard-000001.tar"]
    files = AudioPool.from_manifest(manifest)
    packed = AudioPool.from_shards(tmp_path / "shards")
    assert len(packed) == len(files) and packed.speakers == files.speakers
    assert [c.duration for c in packed.clips] == [c.duration for c in files.clips]
    for seed in range(3):
        draws = [pool.speech(np.random.default_rng(seed), 2 * RATE) for pool in (files, packed)]
        np.testing.assert_array_equal(*draws)


def test_files_are_read_once_for_shards(manifest, tmp_path, monkeypatch):
    read = []

    def encoded(clip, original=Clip.encoded):
        read.append(clip.path)
        return original(clip)

    clips = read_manifest(manifest)
    lost = Path(next(iter(clips.values())).path)
    lost.unlink()  # since they were listed
    monkeypatch.setattr(Clip, "encoded", encoded)
    monkeypatch.setattr("deepvqe_hub.data.clips.native", None)  # opens by path
    with pytest.warns(UserWarning, match=f"{lost.name} out of the shards"):
        write_shards(clips, tmp_path / "shards", clips_per_shard=2)
    assert sorted(read) == sorted(clip.path for clip in clips.values())
    monkeypatch.undo()
    assert [path.name for path in sorted((tmp_path / "shards").iterdir())] == [f"shard-00000{k}.tar" for k in range(3)]
    assert len(AudioPool.from_shards(tmp_path / "shards")) == 5
    with pytest.raises(ValueError, match="no clip could be read"), pytest.warns(UserWarning):
        write_shards({"lost": Clip(str(lost), 1.0)}, tmp_path / "empty")


def test_long_recordings_wait_for_their_turn_to_be_packed(tmp_path, monkeypatch):
    def encoded(clip, original=Clip.encoded):  # all that is read ahead is in memory before any of it is packed
        found = original(clip)
        if threading.current_thread() is not ours:
            together.wait(60)
        return found

    monkeypatch.setattr(Clip, "encoded", encoded)
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, 100_000)
    paths = [write(tmp_path / "long" / f"{k}.wav", audio) for k in range(2 * THREADS)]
    peaks, ours, together = {}, threading.current_thread(), threading.Barrier(THREADS)
    for most in (1 << 24, 1 << 17):
        monkeypatch.setattr("deepvqe_hub.data.shards.MOST_AHEAD", most)
        tracemalloc.start()
        write_shards({path.stem: Clip(str(path), 0.0) for path in paths}, tmp_path / str(most))
        peaks[most] = tracemalloc.get_traced_memory()[1] / paths[0].stat().st_size
        tracemalloc.stop()
    small, large = (next((tmp_path / str(most)).iterdir()).read_bytes() for most in peaks)
    assert small == large
    assert peaks[1 << 17] < 5 < THREADS < peaks[1 << 24], peaks


def test_shards_are_reproducible_and_never_overwritten(manifest, tmp_path):
    one, two = (write_shards(manifest, tmp_path / name)[0].read_bytes() for name in "ab")
    assert one == two
    with pytest.raises(ValueError, match="already holds"):
        write_shards(manifest, tmp_path / "a")


def test_shards_of_others_need_no_json(manifest, tmp_path):
    clip = next(iter(read_manifest(manifest).values()))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(clip.path, "deep/clip.flac")
    pool = AudioPool.from_shards(tmp_path / "x.tar")
    assert pool.clips[0].duration == pytest.approx(clip.duration)


@pytest.mark.parametrize("note", [{"duration": None, "spk_id": "one"}, ["one"], "one", None])
def test_shards_of_others_may_note_other_things(manifest, tmp_path, note):
    clip = next(iter(read_manifest(manifest).values()))
    (tmp_path / "note.json").write_text(json.dumps(note))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(clip.path, "clip.flac")
        tar.add(tmp_path / "note.json", "clip.json")
    (found,) = AudioPool.from_shards(tmp_path / "x.tar").clips
    assert found.duration == pytest.approx(clip.duration)
    assert found.speaker == ("one" if isinstance(note, dict) else "x")


def test_manifests_of_other_recipes_call_the_speaker_otherwise(manifest, tmp_path):
    entries = json.loads(manifest.read_text())
    renamed = {key: {"wav": entry["wav"], "length": 1, "spk_id": f"id-{key}"} for key, entry in entries.items()}
    (manifest.parent / "other.json").write_text(json.dumps(renamed))
    clips, others = read_manifest(manifest), read_manifest(manifest.parent / "other.json")
    assert {key: clip.speaker for key, clip in others.items()} == {key: f"id-{key}" for key in entries}
    assert [clip.duration for clip in others.values()] == pytest.approx([clip.duration for clip in clips.values()])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"wav": "a.wav"},}', "is no manifest: .*line 1"),
        ('{"a": {"wav": "a.wav"}, "b": {"wav": "b.wav"}, "a": {"wav": "c.wav"}}', "has 'a' twice"),
        ('[{"wav": "a.wav"}]', "is no manifest: expected"),
        ('{"a": "x.wav"}', "entry 'a' has no 'wav'"),
        ('{"a": {"wav": null}}', "entry 'a' has no 'wav'"),
    ],
)
def test_manifests_edited_by_hand_are_looked_at(tmp_path, text, said):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(ValueError, match=rf"train\.json.*{said}"):
        read_manifest(tmp_path / "train.json")


def test_a_manifest_that_begins_with_a_mark_of_its_encoding(manifest):
    """As editors of Windows write it."""
    clips = read_manifest(manifest)
    manifest.write_text(manifest.read_text(), encoding="utf-8-sig")
    assert read_manifest(manifest) == clips


def test_the_order_of_clips_is_that_of_the_letters_on_every_system(tmp_path, monkeypatch):
    for name in ("B/1.wav", "a/2.wav", "a b/3.wav"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, np.zeros(1600), 16000)
    monkeypatch.setattr(Path, "__lt__", lambda one, two: str(one).lower() < str(two).lower())  # as on Windows
    names = [Path(clip.path).relative_to(tmp_path).as_posix() for clip in find_clips(tmp_path)]
    assert names == ["B/1.wav", "a/2.wav", "a b/3.wav"]


def test_lengths_that_are_no_lengths_are_measured(manifest):
    entries = json.loads(manifest.read_text())
    before = [clip.duration for clip in read_manifest(manifest).values()]
    for entry, length in zip(entries.values(), (float("nan"), -1, float("inf"), "2", None, 0)):
        entry["duration"] = length
    manifest.write_text(json.dumps(entries))
    assert [clip.duration for clip in read_manifest(manifest).values()] == pytest.approx(before, abs=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
@pytest.mark.parametrize("shards", [False, True])
def test_names_may_be_of_any_alphabet_or_none_and_links_may_lead_to_bare_names(tmp_path, shards):
    stored = write(tmp_path / "store" / "0.wav", np.full(RATE // 4, 0.1)).rename(tmp_path / "store" / "ab12")
    for folder in ("clean", "noise"):
        for name in (b"train/\xd0\x90", b"train/\xd0\x91", b"train/\xff", b"train/\xfe", b"valid/x"):
            path = tmp_path / "data" / folder / os.fsdecode(name) / "0.wav"
            path.parent.mkdir(parents=True)
            path.symlink_to(stored)
    Path(os.fsdecode(bytes(path.parent) + b"/\xfd.wav")).write_bytes(b"nothing")
    folder = write_manifests(tmp_path / "data", tmp_path / "out", shards=shards)
    assert (folder / "broken.txt").read_bytes().endswith(b"\xfd.wav\n")
    for pool in read_pools(folder, "train")[:2]:
        assert len(pool) == 4 and all(pool.read(index, 0, 100).any() for index in range(4))


@pytest.mark.parametrize(
    ("kind", "together", "apart"),
    [
        ("speech", ["b_1_chp_2_reader_06709_0_seg_1", "x/b_3_reader_06709_7"], "b_1_reader_6_1"),
        ("speech", ["a/84/121123/84-121123-0000", "a/84/121550/84-121550-0001"], "a/85/121551/85-121551-0001"),
        ("speech", ["p226_001", "p226_002"], "p227_001"),
        ("speech", ["anna/x_1", "anna/x_2"], "ben/x_1"),
        ("noise", ["game/000_wind", "game/001_wind", "game/1000_wind"], "game/002_rain"),
        ("noise", ["game/003_effects", "game/004_effects"], "other/000_effects"),
        ("noise", ["fan_Freesound_validated_342_0", "fan_Freesound_validated_342_12"], "fan_Freesound_validated_7_0"),
        ("noise", ["DKITCHEN/ch01", "DKITCHEN/ch16"], "DLIVING/ch01"),
        ("rooms", ["SLR26/Room001/Room001-00001", "SLR26/Room001/Room001-00002"], "SLR26/Room002/Room002-00001"),
        ("rooms", ["a_largeroom1_far_angla", "a_largeroom1_near_angla"], "a_largeroom2_far_angla"),
        ("rooms", ["real_rirs_isotropic_noises/air_stairway_1_1", "real_rirs_isotropic_noises/rwcp_jr1"], "rir_1"),
    ],
)  # fmt: skip
def test_what_belongs_together_is_known_by_its_name(kind, together, apart):
    assert len({group_of(Path(name + ".wav"), kind) for name in together}) == 1
    assert len({group_of(Path(name + ".wav"), kind) for name in (together[0], apart)}) == 2


def test_files_whose_names_tell_nothing_are_on_their_own():
    for kind, name in (("speech", "utt_00"), ("noise", "door_"), ("rooms", "rir_")):
        assert len({group_of(Path(f"{name}{number}.wav"), kind) for number in (1, 2)}) == 2
    with pytest.raises(ValueError, match="kind must be one of speech, noise, rooms, not 'voices'"):
        group_of(Path("a.wav"), "voices")


def test_a_repaired_file_is_noticed(tmp_path):
    for split in ("train", "valid"):
        write(tmp_path / "data" / "clean" / split / "one" / "a.wav", np.ones(RATE) * 0.1)
        write(tmp_path / "data" / "noise" / split / "hum.wav", np.ones(RATE) * 0.1)
    cut = tmp_path / "data" / "clean" / "train" / "two" / "b.wav"
    cut.parent.mkdir()
    cut.write_bytes(b"RIFF")
    made = write_manifests(tmp_path / "data", tmp_path / "made")
    assert str(cut) in (made / "broken.txt").read_text()
    write(cut, np.ones(2 * RATE) * 0.1)
    write_manifests(tmp_path / "data", tmp_path / "made")
    assert not (made / "broken.txt").exists()
    speech = json.loads((made / "train_speech.json").read_text())
    assert [entry["duration"] for key, entry in speech.items() if key.endswith("two/b")] == [2]
    with pytest.raises(ValueError, match="holds the data"):
        write_manifests(tmp_path / "data", tmp_path / "data")


def test_a_file_that_could_not_be_opened_for_a_while_is_not_lost(tmp_path, monkeypatch, caplog):
    for name in ("clean/train/a/x", "clean/train/b/y", "clean/valid/c/z", "noise/train/hum", "noise/valid/hum"):
        write(tmp_path / "data" / f"{name}.wav", np.ones(RATE) * 0.1)
    (tmp_path / "data" / "noise" / "train" / "never.wav").write_bytes(b"RIFF")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as away:

        def unavailable(clip, measured=Clip.measured):
            return clip if clip.path.endswith("y.wav") else measured(clip)

        away.setattr(Clip, "measured", unavailable)
        write_manifests("data", "made")
        assert len(Path("made/broken.txt").read_text().splitlines()) == 2
    monkeypatch.chdir(tmp_path / "data")
    for _ in range(2):
        made = write_manifests(tmp_path / "data", tmp_path / "made")
        assert len(json.loads((made / "train_speech.json").read_text())) == 2
        assert (made / "broken.txt").read_text() == str(tmp_path / "data/noise/train/never.wav") + "\n"
    assert caplog.text.count("now can; making") == 1


def test_a_copy_of_prepared_data_is_whole_or_refused(tmp_path, caplog):
    for name in ("train/a/x", "train/b/y", "valid/c/z"):
        for kind in ("clean", "noise"):
            write(tmp_path / "data" / kind / f"{name}.wav", np.ones(RATE) * 0.1)
    write_manifests(tmp_path / "data", tmp_path / "json")
    edited = tmp_path / "json" / "train_speech.json"
    entries = json.loads(edited.read_text())
    edited.write_text(json.dumps(dict(list(entries.items())[:1])))
    assert write_manifests(tmp_path / "json", tmp_path / "unused") == tmp_path / "json"
    assert len(json.loads(edited.read_text())) == 1 and "train_speech.json was edited" in caplog.text
    packed = write_manifests(tmp_path / "data", tmp_path / "packed", shards=True)
    shard = packed / "train_noise" / "shard-000000.tar"
    whole = shard.read_bytes()
    for damage in (lambda: shard.write_bytes(whole[:-512]), shard.unlink):
        damage()
        with pytest.raises(ValueError, match=r"lacks train_noise/shard-000000\.tar as it was written"):
            write_manifests(packed, tmp_path / "unused")
    shard.write_bytes(whole)
    assert write_manifests(packed, tmp_path / "unused") == packed
    (packed / "prepared.json").write_bytes(b"")
    with pytest.raises(ValueError, match=r"lacks prepared\.json"):
        write_manifests(packed, tmp_path / "unused")


def test_names_that_differ_in_suffixes_alone_are_all_listed(tmp_path):
    for order in itertools.permutations(("s/a.wav.flac", "s/a.flac", "s/a.wav", "s/a.wav.wav")):
        found = {}
        for name in order:
            manifests._add(found, Path(name), Clip(name, 1.0), "s")
        assert sorted(Path(clip.path).relative_to(Path.cwd()).as_posix() for clip in found.values()) == sorted(order)
    odd = write(tmp_path / "{data_root}" / "a.wav", np.full(100, 0.1))
    (tmp_path / "odd.json").write_text(
        json.dumps({"a": {"wav": str(odd)}, "b": {"wav": "{data_root}/{data_root}/a.wav"}})
    )
    assert {clip.path for clip in read_manifest(tmp_path / "odd.json").values()} == {str(odd)}


def test_files_outside_of_the_splits_are_told_of_once(tmp_path, caplog):
    for name in ("train/a/x", "valid/b/y", "other/c/z", "other/d/z"):
        for kind in ("clean", "noise"):
            write(tmp_path / "data" / kind / f"{name}.wav", np.ones(RATE) * 0.1)
    write_manifests(tmp_path / "data", tmp_path / "made")
    told = [record.getMessage() for record in caplog.records if "none of the folders" in record.getMessage()]
    assert len(told) == 2 and all(text.startswith("2 files, such as ") for text in told)


@pytest.mark.parametrize("shards", [False, True])
def test_what_was_prepared_stays_until_there_is_better(tmp_path, shards):
    for split in ("train", "valid"):
        write(tmp_path / "data" / "clean" / split / "one" / "a.wav", np.ones(RATE) * 0.1)
        write(tmp_path / "data" / "noise" / split / "hum.wav", np.ones(RATE) * 0.1)
    made = write_manifests(tmp_path / "data", tmp_path / "made", shards=shards)
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    voice = tmp_path / "data" / "clean" / "valid" / "one" / "a.wav"
    voice.rename(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="gives no valid files"):
        write_manifests(tmp_path / "data", made, shards=shards)
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    (tmp_path / "a.wav").rename(voice)
    lost = next(path for path in before if path.name != "prepared.json")
    lost.unlink()
    write_manifests(tmp_path / "data", made, shards=shards)
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_manifests_stay_where_the_disk_is_full(tmp_path, monkeypatch):
    for name in ("clean/train/one/a", "clean/valid/one/a", "noise/train/hum", "noise/valid/hum"):
        write(tmp_path / "data" / f"{name}.wav", np.ones(RATE) * 0.1)
    made = write_manifests(tmp_path / "data", tmp_path / "made")
    before = {path: path.read_bytes() for path in made.iterdir()}
    write(tmp_path / "data/noise/train/fan.wav", np.ones(RATE) * 0.1)

    def full(path, text, original=Path.write_text, **options):
        if '"fan"' in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match=r"cannot write.*train_noise\.json"):
            write_manifests(tmp_path / "data", made)
    assert {path: path.read_bytes() for path in made.iterdir()} == before
    assert '"fan"' in (write_manifests(tmp_path / "data", made) / "train_noise.json").read_text()


def test_a_folder_and_its_manifests_give_the_same_mixtures(tmp_path):
    """Parts of a recording are told by their names in both, and durations are equally exact."""
    rng = np.random.default_rng(0)
    names = [f"clean/{{}}/{speaker}/{i}.wav" for speaker in "ab" for i in range(3)]
    names += [f"noise/{{}}/fan_Freesound_validated_{i // 2}_{i % 2}.wav" for i in range(6)] + ["noise/{}/000_wind.wav"]
    for name in names:
        for split in ("train", "valid", "test"):
            write(tmp_path / "data" / name.format(split), rng.standard_normal(rng.integers(RATE, 3 * RATE)) * 0.1)
    write_manifests(tmp_path / "data", tmp_path / "made")
    pools = scan(tmp_path / "data", "test"), read_pools(tmp_path / "made", "test")
    assert pools[0][1].speakers == [*(f"fan_Freesound_validated_{i}" for i in range(3)), "wind"]
    for kind in (0, 1):
        assert [(c.speaker, c.duration) for c in pools[0][kind].clips] == [
            (c.speaker, c.duration) for c in pools[1][kind].clips
        ]
    items = [[NoisySpeech(*p, segment_seconds=1.0, size=4, seed=3)[i] for i in range(4)] for p in pools]
    for one, two in zip(*items):
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)


def test_scan_names_what_is_missing(tmp_path):
    write(tmp_path / "clean" / "a" / "0.wav", np.ones(RATE) * 0.1)
    with pytest.raises(FileNotFoundError, match="split=None"):
        scan(tmp_path, "train")
    for read in (AudioPool.from_folder, AudioPool.from_shards, EchoRecordings):
        with pytest.raises(FileNotFoundError, match="no such folder"):
            read(tmp_path / "nowhere")
    write(tmp_path / "noise" / "0.wav", np.ones(RATE) * 0.1)
    speech, noise, rooms = scan(tmp_path, None)
    assert len(speech) == len(noise) == 1 and rooms is None
    with pytest.raises(ValueError, match="same sample_rate"):
        NoisySpeech(speech, noise, sample_rate=8000)


def test_samples_far_beyond_full_scale_are_no_audio(tmp_path):
    wave = np.zeros(1600, np.float32)
    wave[800] = 3e25  # finite, but its power is not
    soundfile.write(tmp_path / "bits.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(OSError, match="far beyond full scale"):
        Clip(str(tmp_path / "bits.wav"), 0.1, "x").read(16000)


def test_an_empty_folder_is_told_what_would_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"no audio files \(.*\.opus.*\.aiff.*\) below"):
        AudioPool.from_folder(tmp_path)
