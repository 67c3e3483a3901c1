"""Echo scenes, loudspeaker and delay, ready-made recordings."""

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, default_collate

from deepvqe_hub.data import AudioPool, EchoRecordings, EchoSpeech, RoomPool, active_frames, active_power, mix, mix_echo
from deepvqe_hub.data.loudspeaker import delay_track, delayed, distort
from deepvqe_hub.data.recordings import FOLDERS

RATE = 16000
PLAIN = dict(
    room_p=0.0, shape_p=0.0, band_p=0.0, clip_p=0.0, mute_p=0.0, lead_p=0.0, noise_only_p=0.0, clean_only_p=0.0,
    far_noise_p=0.0, far_noisy_p=0.0, jump_p=0.0, drift_p=0.0, change_p=0.0, distortion_p=0.0, memory_p=0.0,
    high_pass_p=0.0, far_only_p=0.0, near_only_p=0.0, pause_seconds=(0.05, 0.1),
)  # fmt: skip


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for speaker in ("anna", "ben", "carl"):
        (root / "clean" / speaker).mkdir(parents=True)
        for k in range(2):
            soundfile.write(root / f"clean/{speaker}/{k}.wav", 0.1 * rng.standard_normal(2 * RATE), RATE)
    (root / "noise").mkdir()
    soundfile.write(root / "noise/hiss.wav", 0.05 * rng.standard_normal(RATE), RATE)
    (root / "rooms").mkdir()
    for k in range(2):
        room = rng.standard_normal((4800, 3)) * np.exp(-np.arange(4800) / 800)[:, None] * 0.1
        room[:32], room[32] = 0, 0.5
        soundfile.write(root / f"rooms/{k}.flac", room, RATE)
    return (
        AudioPool.from_folder(root / "clean", cache=True),
        AudioPool.from_folder(root / "noise", cache=True),
        RoomPool.from_folder(root / "rooms", cache=True, seconds=0.3),
    )


def make(pools, count=4, seconds=2.0, **options):
    data = EchoSpeech(*pools, segment_seconds=seconds, size=100, **PLAIN | options)
    return default_collate([data[i] for i in range(count)])


def lag(a, b):
    size = 2 * len(a)
    cross = torch.fft.irfft(torch.fft.rfft(a, size) * torch.fft.rfft(b, size).conj(), size)
    peak = int(cross.argmax())
    return peak - size if peak > size // 2 else peak


def test_items_do_not_depend_on_workers(pools):
    data = EchoSpeech(*pools, segment_seconds=1.0, size=6, seed=5)
    one, two = (next(iter(DataLoader(data, batch_size=6, num_workers=n))) for n in (0, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_default_scenes_are_finite_and_shaped(pools):
    data = EchoSpeech(*pools, segment_seconds=1.0, size=40)
    mic, farend, clean, delay = mix_echo(default_collate([data[i] for i in range(40)]))
    assert mic.shape == farend.shape == clean.shape == (40, RATE)
    assert delay.shape == active_frames(farend).shape == (40, RATE // 256 + 1)
    assert active_frames(farend, RATE, 512).shape == (40, RATE // 512 + 1)  # the order that mix_echo has
    assert all(part.isfinite().all() for part in (mic, farend, clean, delay))
    assert mic.abs().max() < 1 and farend.abs().max() < 1
    assert delay.max() <= 0.6 + 1e-3 and set(delay[delay < 0].tolist()) <= {-1.0}


def test_scenes_and_echo_paths_are_drawn_as_often_as_asked():
    class Speech:
        sample_rate, speakers = RATE, ("anna", "ben")

        def draw_speaker(self, rng, avoid=None):
            return next(name for name in rng.permutation(self.speakers) if name != avoid)

        def speech(self, rng, samples, *, speaker, lead, pause):
            return np.where(np.arange(samples) >= lead, 1.0 if speaker == "anna" else 2.0, 0).astype("f")

    class Noise:
        sample_rate = RATE

        def noise(self, rng, samples):
            return np.full(samples, -0.5, "f")

    class Rooms(Noise):
        samples = 40

        def draw(self, rng):
            return np.array([[1.0], [2.0], [3.0]], "f").repeat(40, 1)

    chances = {"far_only_p": 0.3, "near_only_p": 0.2, "noise_only_p": 0.1, "far_noise_p": 0.25, "far_noisy_p": 0.4}
    chances |= {"jump_p": 0.15, "drift_p": 0.35, "change_p": 0.45, "distortion_p": 0.6, "memory_p": 0.75}
    chances |= {"high_pass_p": 0.55, "lead_p": 0.5, "room_p": 1.0}
    data = EchoSpeech(Speech(), Noise(), Rooms(), segment_seconds=0.1, **PLAIN | chances, delay_seconds=(0.02, 0.1))
    items = [data.draw(data.generator(index)) for index in range(1000)]

    def share(condition):
        return pytest.approx(np.mean([condition(item) for item in items]), abs=0.05)

    def scene(item):
        return bool(item["speech_gain"]), bool(item["echo_gain"]), bool(item["farend"].any())

    assert share(lambda item: scene(item) == (True, True, True)) == 0.4, "double talk"
    assert share(lambda item: scene(item) == (False, True, True)) == 0.3, "far end alone"
    assert share(lambda item: scene(item) == (False, True, False)) == 0.1, "noise alone"
    for headphones in (False, True):
        assert share(lambda item, far=headphones: scene(item) == (True, False, far)) == 0.1, "near end alone"
    ends = [(item["speech"].max(), part[np.argmax(np.abs(part))]) for item in items if (part := item["farend"]).any()]
    assert {pair for pair in ends if {*pair} <= {1, 2}} == {(1, 2), (2, 1)}, "two talkers"
    values = np.array([far for _, far in ends])
    assert np.mean(values == -0.5) == pytest.approx(0.25, abs=0.05), "a recording of noise"
    assert np.mean(np.isin(values, (1, 2))) == pytest.approx(0.75 * 0.6, abs=0.05), "a talker without noise"
    noisy = np.array([1 - far / np.ceil(far) for far in values[(values > 0) & ~np.isin(values, (1, 2))]])
    snr_db = -20 * np.log10(noisy)
    assert snr_db.mean() == pytest.approx(25, abs=2.5), "noise 10 to 40 dB below the talker"
    assert np.quantile(snr_db, [0.1, 0.9]) == pytest.approx([13, 37], abs=2.5)
    assert share(lambda item: item["speech"][0] == 0) == 0.5 and share(lambda item: item["speech"][-1] == 0) == 0.5
    heard = [np.flatnonzero(item["speech"]) for item in items]
    assert all(place[0] < 800 and place[-1] >= 799 for place in heard), "not all of a half is silent"
    delays = np.array([item["delay_seconds"] for item in items])
    assert delays.min() >= 0 and 0.5 < delays.max() <= 0.6
    assert np.mean(np.abs(delays[:, 0] - 0.06) > 0.04) == pytest.approx(0.1 * 0.52 / 0.6, abs=0.03)
    assert share(lambda item: np.ptp(item["delay_seconds"]) > 0) == 0.15
    np.testing.assert_allclose(delays * RATE, np.round(delays * RATE), atol=1e-6)
    assert share(lambda item: item["drift_ppm"] != 0) == 0.35
    assert share(lambda item: item["changes"] == 1) == 0.45
    assert all(item["new_echo_room"].any() == item["changes"] for item in items)
    assert {item["new_echo_room"].max() for item in items} == {0, 2}, "of the loudspeaker"
    for kind in (1, 2, 3):
        assert share(lambda item, kind=kind: item["kind"] == kind) == 0.2
    assert share(lambda item: item["filters"][0, 1:].any() and item["filters"][2, 1:].any()) == 0.75
    assert all((item["filters"][:, 0] == 1).all() and item["filters"][1, 1:].any() for item in items)
    assert share(lambda item: item["echo_shape"].min() < -5) == 0.55


def test_mixing_stays_on_the_device_of_the_batch(pools):
    # The meta device computes nothing, but refuses operands from two devices.
    batch = {name: value.to("meta") for name, value in make(pools, count=2).items()}
    assert {part.device.type for part in (*mix_echo(batch), *mix(batch))} == {"meta"}


@pytest.mark.parametrize("room_p", [0.0, 1.0])
def test_delay_label_is_the_measured_lag(pools, room_p):
    batch = make(pools, far_only_p=1.0, room_p=room_p)
    mic, farend, clean, delay = mix_echo(batch | {"noise_gain": torch.zeros(4)})
    assert not clean.any()
    for row in range(4):
        heard = delay[row][delay[row] >= 0]
        assert len(heard) > 50 and heard.unique().numel() == 1
        assert lag(mic[row], farend[row]) == round(heard[0].item() * RATE)
    # No echo before it arrives.
    talking = batch["farend"] * (torch.arange(2 * RATE) >= RATE)
    _, _, _, delay = mix_echo(batch | {"farend": talking, "delay_seconds": torch.full((4, 2), 0.25)})
    assert (delay[:, : 20000 // 256 - 1] == -1).all() and (delay[:, 20000 // 256 + 2 :].amax(1) == 0.25).all()


def test_delay_label_follows_a_jump(pools):
    batch = make(pools, far_only_p=1.0, jump_p=1.0, jump_seconds=(0.05, 0.1), delay_seconds=(0.1, 0.2), count=3)
    mic, farend, _, delay = mix_echo(batch | {"noise_gain": torch.zeros(3)})
    for row in range(3):
        jump = int(batch["delay_starts"][row, 1] * RATE)
        for part, label in ((slice(0, jump), delay[row, jump // 256 - 3]), (slice(jump, None), delay[row, -2])):
            piece = torch.zeros_like(mic[row])
            piece[part] = mic[row, part]
            if len(mic[row, part]) > 8000:
                assert lag(piece, farend[row]) == round(label.item() * RATE)


def test_ser_and_snr(pools):
    batch = make(pools, level_dbfs=(-40.0, -30.0))
    silent = {"noise_gain": torch.zeros(4)}
    mic, _, clean, _ = mix_echo(batch | silent)
    ser = 10 * torch.log10(active_power(clean) / active_power(mic - clean))
    torch.testing.assert_close(ser, batch["ser_db"], atol=0.1, rtol=0)
    mic, _, clean, _ = mix_echo(batch | {"echo_gain": torch.zeros(4)})
    snr = 10 * torch.log10(active_power(clean) / active_power(mic - clean))
    torch.testing.assert_close(snr, batch["snr_db"], atol=0.1, rtol=0)
    assert lag(mic[0], clean[0]) == 0


def test_noise_is_measured_against_the_echo_without_a_talker(pools):
    batch = make(pools, far_only_p=1.0, snr_db=(10.0, 10.0), far_level_dbfs=(-30.0, -30.0), level_dbfs=(-30.0, -30.0))
    loud, *_ = mix_echo(batch)
    echo, *_ = mix_echo(batch | {"noise_gain": torch.zeros(4)})
    for row in range(4):
        scale = (loud[row] @ echo[row]) / (echo[row] @ echo[row])
        rest = loud[row] - scale * echo[row]
        ratio = 10 * torch.log10(active_power(scale * echo[row]) / active_power(rest))
        assert ratio == pytest.approx(10.0, abs=0.3)


def test_near_only_has_no_echo(pools):
    batch = make(pools, near_only_p=1.0, count=8)
    mic, farend, clean, delay = mix_echo(batch | {"noise_gain": torch.zeros(8)})
    torch.testing.assert_close(mic, clean)
    assert (delay == -1).all()
    active = farend.abs().amax(-1) > 0
    assert active.any() and not active.all(), "both a silent far end and headphones"


def test_echo_path_change_ends_in_the_new_room(pools):
    batch = make(pools, far_only_p=1.0, room_p=1.0, change_p=1.0, count=2)
    batch["noise_gain"] = torch.zeros(2)
    batch["change_seconds"] = torch.tensor([[0.8, 0.1]] * 2)
    changed, *_ = mix_echo(batch)
    old, *_ = mix_echo(batch | {"changes": torch.zeros(2)})
    new = batch["room"].clone()
    new[:, 1] = batch["new_echo_room"]
    fresh, *_ = mix_echo(batch | {"changes": torch.zeros(2), "room": new})
    for reference, part in ((old, slice(8000, 12000)), (fresh, slice(16000, 32000))):
        cosine = torch.nn.functional.cosine_similarity(changed[:, part], reference[:, part])
        torch.testing.assert_close(cosine, torch.ones(2), atol=1e-4, rtol=0)


def test_loudspeaker_kinds():
    time = torch.arange(4096) / 4096
    tone = torch.sin(2 * torch.pi * 64 * time).expand(4, -1)
    second = torch.roll(tone, 5, 1)
    played = distort(tone, second, torch.arange(4.0), torch.full((4,), 2.0), torch.full((4,), 0.4))
    torch.testing.assert_close(played[0], tone[0])
    torch.testing.assert_close(played[1], tone[1] / (1 + (2 * tone[1]) ** 2).sqrt())
    harmonic = torch.fft.rfft(played).abs()[:, 64::64]
    harmonic = harmonic / harmonic[:, :1]
    assert harmonic[0, 1:4].max() < 1e-3
    assert harmonic[1, 1] < 1e-3 < 0.02 < harmonic[1, 2], "soft: odd harmonics only"
    assert harmonic[2, 1] > 0.02 and harmonic[2, 2] > 0.02, "sigmoid: both"
    assert harmonic[3, 1] > 0.1 and harmonic[3, 2] < 1e-3, "volterra: second order"


def test_delayed_is_exact_for_whole_and_close_for_fractional_samples():
    time = torch.arange(2000.0)
    tone = torch.sin(2 * torch.pi * 0.02 * time)[None]
    whole = delayed(tone, torch.full((1, 2000), 37.0))
    torch.testing.assert_close(whole[:, 37:], tone[:, :-37])
    assert not whole[:, :37].any()
    expected = torch.sin(2 * torch.pi * 0.02 * (time - 37.5))[None]
    torch.testing.assert_close(delayed(tone, torch.full((1, 2000), 37.5))[:, 50:], expected[:, 50:], atol=1e-3, rtol=0)


def test_delay_track_steps_and_drifts():
    starts, seconds = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.1, 0.3]])
    found = delay_track(starts, seconds, torch.tensor([1000.0]), torch.tensor([0.0, 0.5, 1.0, 2.0]))
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.1005, 0.301, 0.302]]))


def test_one_speaker_is_not_enough(pools, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(RATE) * 0.1, RATE)
    with pytest.raises(ValueError, match="one speaker"):
        EchoSpeech(AudioPool([tmp_path / "a.wav"]), pools[1])


def test_a_setting_that_echo_scenes_do_not_have(pools):
    with pytest.raises(ValueError, match="lead_seconds: EchoSpeech has no such setting"):
        EchoSpeech(*pools, lead_seconds=(0.0, 0.5))


def test_recordings_are_cut_together_and_scaled(tmp_path):
    rng = np.random.default_rng(0)
    names = {
        "nearend_mic_signal": "nearend_mic",
        "farend_speech": "farend_speech",
        "nearend_speech": "nearend_speech",
    }
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        for number in range(3):
            audio = rng.standard_normal(2 * RATE) * 0.05
            soundfile.write(tmp_path / folder / f"{name}_fileid_{number}.wav", audio, RATE, subtype="FLOAT")
    for number in range(3):
        echo, _ = soundfile.read(tmp_path / f"farend_speech/farend_speech_fileid_{number}.wav")
        near, _ = soundfile.read(tmp_path / f"nearend_speech/nearend_speech_fileid_{number}.wav")
        mic = tmp_path / f"nearend_mic_signal/nearend_mic_fileid_{number}.wav"
        soundfile.write(mic, echo + 0.5 * near, RATE, subtype="FLOAT")
    (tmp_path / "meta.csv").write_text(
        "fileid,nearend_scale,split\n0,0.5,test\n1,0.5,train\n2,0.5,train\n", encoding="utf-8-sig"
    )
    data = EchoRecordings(tmp_path, segment_seconds=1.0, split="train")
    assert data.ids == [1, 2]
    for item in (data[0], data[1]):
        assert item["mic"].shape == (RATE,)
        torch.testing.assert_close(item["mic"], item["clean"] + item["farend"], atol=1e-6, rtol=0)
    first = data[0]["mic"]
    data.set_epoch(1)
    assert not torch.equal(data[0]["mic"], first), "another stretch"
    assert EchoRecordings(tmp_path, segment_seconds=None)[0]["farend"].shape == (2 * RATE,)
    (tmp_path / "farend_speech/farend_speech_fileid_1.wav").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="fileid_1"):
        torch.testing.assert_close(
            EchoRecordings(tmp_path, split="train", segment_seconds=None)[0]["mic"].shape, (2 * RATE,)
        )
    with pytest.raises(ValueError, match="split 'valid'"):
        EchoRecordings(tmp_path, split="valid")


def test_no_recording_is_lost_in_silence(tmp_path):
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir()
        for number in range(5):  # the last is not in the table, and so of no split
            soundfile.write(tmp_path / folder / f"a_fileid_{number}.wav", np.full(800, 0.1), RATE)
    (tmp_path / "meta.csv").write_text("fileid,split\n0,train\n1,train\n2,train\n3,test\n")
    for number in (1, 3):
        (tmp_path / "nearend_mic_signal" / f"a_fileid_{number}.wav").unlink()
    with pytest.warns(UserWarning, match=r"1 of 3 scenes in .* left out, such as fileid_1, .*nearend_mic_signal"):
        assert len(EchoRecordings(tmp_path, split="train")) == 2
    soundfile.write(tmp_path / "farend_speech" / "b_fileid_0.wav", np.full(800, 0.1), RATE)
    with pytest.raises(ValueError, match=r"fileid_0 twice: a_fileid_0\.wav and b_fileid_0\.wav"):
        EchoRecordings(tmp_path)


@pytest.mark.parametrize("pool", [AudioPool, RoomPool])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_one_path_is_not_taken_for_several(pool, kind, tmp_path):
    with pytest.raises(ValueError, match="is one path and not several; for all files in a folder: from_folder"):
        pool(kind(tmp_path))
