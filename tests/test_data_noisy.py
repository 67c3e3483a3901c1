"""Noisy speech: reproducible items, honest mixtures."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, default_collate

from deepvqe_hub.data import NoisySpeech, active_power, mix, scan
from deepvqe_hub.data.mixing import SHAPE_HZ, add_noises, fft_length, magnitude

RATE = 16000
PLAIN = dict(
    room_p=0.0, shape_p=0.0, band_p=0.0, clip_p=0.0, mute_p=0.0, lead_p=0.0, noise_only_p=0.0, clean_only_p=0.0
)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for split in ("clean/train/anna", "clean/train/ben", "noise/train/hum", "impulse_responses/train"):
        (root / split).mkdir(parents=True)
    for speaker in ("anna", "ben"):
        for k in range(3):
            # Bursts of noise stand for words: broad-band, with gaps, as correlation needs them.
            audio = 0.1 * rng.standard_normal(2 * RATE) * np.repeat(rng.random(20) > 0.3, RATE // 10)
            soundfile.write(root / f"clean/train/{speaker}/{k}.wav", audio, RATE)
    for k in range(3):
        soundfile.write(root / f"noise/train/hum/{k}.wav", 0.05 * rng.standard_normal(RATE), RATE)
    room = rng.standard_normal((4800, 3)) * np.exp(-np.arange(4800) / 800)[:, None] * 0.1
    room[:32], room[32] = 0, 0.5
    soundfile.write(root / "impulse_responses/train/r.flac", room, RATE)
    return scan(root, "train", cache=True)


def batch_of(data, count=8):
    return default_collate([data[i] for i in range(count)])


def lag(a, b):
    """Lag of `a` behind `b` in samples, by cross-correlation."""
    size = fft_length(2 * a.shape[-1])
    cross = torch.fft.irfft(torch.fft.rfft(a, size) * torch.fft.rfft(b, size).conj(), size)
    peak = cross.argmax(-1)
    return torch.where(peak > size // 2, peak - size, peak)


def high(signal):
    """The share of the energy above 3.9 kHz."""
    spectrum = torch.fft.rfft(signal * torch.hann_window(signal.shape[1]), 2**15).abs().square()
    return spectrum[:, int(3900 / RATE * 2**15) :].sum(-1) / spectrum.sum(-1)


def test_items_depend_on_seed_epoch_and_index_alone(pools):
    def items(seed, epoch, workers):
        data = NoisySpeech(*pools, segment_seconds=1.0, size=8, seed=seed)
        data.set_epoch(epoch)
        return next(iter(DataLoader(data, batch_size=8, num_workers=workers)))

    first = items(1, 2, 0)
    for again in (items(1, 2, 0), items(1, 2, 2)):
        assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (items(2, 2, 0), items(1, 3, 0)):
        assert not torch.equal(first["snr_db"], other["snr_db"])
    for one, two in zip(mix(first), mix(first)):
        assert torch.equal(one, two)


def test_workers_that_stay_alive_see_the_epoch(pools):
    data = NoisySpeech(*pools, segment_seconds=0.5, size=4)
    loader = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True)
    first = next(iter(loader))["snr_db"]
    data.set_epoch(1)
    second = next(iter(loader))["snr_db"]
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, batch_of(data, 4)["snr_db"])


def test_snr_and_level(pools):
    data = NoisySpeech(*pools, segment_seconds=2.0, level_dbfs=(-40.0, -25.0), **PLAIN)
    batch = batch_of(data)
    noisy, clean = mix(batch)
    # Without a room the target is the speech component.
    snr = 10 * torch.log10(active_power(clean) / active_power(noisy - clean))
    torch.testing.assert_close(snr, batch["snr_db"], atol=0.1, rtol=0)
    level = 10 * torch.log10(active_power(noisy))
    torch.testing.assert_close(level, batch["level_dbfs"], atol=0.1, rtol=0)
    loudest, _ = mix(batch | {"level_dbfs": torch.zeros(8)})
    torch.testing.assert_close(loudest.abs().amax(-1), torch.full((8,), 0.99))  # the level gives way, nothing is cut


@pytest.mark.parametrize("room_p", [0.0, 1.0])
def test_target_is_aligned(pools, room_p):
    data = NoisySpeech(*pools, segment_seconds=2.0, **PLAIN | {"room_p": room_p, "shape_p": 1.0, "band_p": 0.5})
    noisy, clean = mix(batch_of(data))
    assert not lag(noisy, clean).any()


def test_target_keeps_direct_path_and_early_reflections_only(pools):
    data = NoisySpeech(*pools, segment_seconds=1.0, **PLAIN | {"room_p": 1.0, "clean_only_p": 1.0})
    batch = batch_of(data, 2)
    impulse = torch.zeros_like(batch["speech"])
    impulse[:, 2000] = 1
    noisy, clean = mix(batch | {"speech": impulse})
    gain = noisy[0, 2000] / 0.5
    response = batch["room"][0, 0]
    torch.testing.assert_close(noisy[0, 2000:6000] / gain, response[32:4032], atol=1e-5, rtol=0)
    torch.testing.assert_close(clean[0, 2000:2800], noisy[0, 2000:2800], atol=1e-6, rtol=0)
    assert clean[0, 2801:].abs().max() < 1e-5
    assert 0 < clean.square().sum() < noisy.square().sum()


def test_noise_only_has_zero_target_and_clean_only_no_noise(pools):
    noisy, clean = mix(batch_of(NoisySpeech(*pools, segment_seconds=1.0, **PLAIN | {"noise_only_p": 1.0}), 3))
    assert not clean.any() and noisy.abs().amax(-1).min() > 1e-3
    noisy, clean = mix(batch_of(NoisySpeech(*pools, segment_seconds=1.0, **PLAIN | {"clean_only_p": 1.0}), 3))
    torch.testing.assert_close(noisy, clean)


def test_conditions_are_drawn_as_often_as_asked():
    class Pool:
        sample_rate, samples = RATE, 100

        def speech(self, rng, samples, lead=0, **options):
            return (np.arange(samples) >= lead).astype("f")

        def noise(self, rng, samples):
            return np.ones(samples, "f")

        def draw(self, rng):  # of rooms: talker, loudspeaker, noise
            return np.array([[1.0], [2.0], [3.0]], "f").repeat(100, 1)

    chances = {"noise_only_p": 0.2, "clean_only_p": 0.1, "room_p": 0.65, "shape_p": 0.45, "band_p": 0.35}
    chances |= {"clip_p": 0.15, "mute_p": 0.25, "lead_p": 0.55, "codec_p": 0.7}
    data = NoisySpeech(
        *[Pool()] * 3, segment_seconds=0.1, lead_seconds=(0.02, 0.05), mute_seconds=(0.02, 0.03), noises=3, **chances
    )
    items = [data.draw(data.generator(index)) for index in range(1000)]

    def share(condition):
        return pytest.approx(np.mean([condition(item) for item in items]), abs=0.05)

    assert share(lambda item: item["speech_gain"] == 0) == 0.2
    assert share(lambda item: item["noise_gain"] == 0) == 0.1
    assert all(item["speech_gain"] or item["noise_gain"] for item in items), "not nothing at all"
    assert share(lambda item: item["room"][0, 0] == 1 and item["room"][1, 0] == 3) == 0.65
    assert share(lambda item: item["room"][0, 0] == 0 and item["room"][1, 0] == 0) == 0.35
    assert share(lambda item: item["speech_shape"].any()) == 0.45
    assert share(lambda item: item["noise_shape"].any()) == 0.45
    assert share(lambda item: item["speech_cutoff"] < 8000) == 0.35
    assert share(lambda item: item["noise_cutoff"] == item["speech_cutoff"] < 8000) == 0.35 / 2
    assert all(item["noise_cutoff"] in (item["speech_cutoff"], 8000) for item in items)
    assert share(lambda item: item["clip"] < 1) == 0.15 and max(item["clip"] for item in items) == 1
    assert share(lambda item: item["mute"].any()) == 0.25
    muted = [np.diff(item["mute"])[0] for item in items if item["mute"].any()]
    assert 0.02 * RATE <= min(muted) <= max(muted) <= 0.03 * RATE
    leads = [np.argmax(item["speech"]) for item in items if item["speech"][0] == 0]
    assert len(leads) / 1000 == pytest.approx(0.55, abs=0.05)
    assert 0.02 * RATE <= min(leads) <= max(leads) <= 0.05 * RATE
    for codec in (1, 2):
        assert share(lambda item, codec=codec: item["codec"] == codec) == 0.35
    counts = [np.isfinite(item["noise_db"]).sum() for item in items]
    assert counts == [item["noise"].any(1).sum() for item in items]
    assert np.bincount(counts) / 1000 == pytest.approx([0, 2 / 3, 1 / 6, 1 / 6], abs=0.05)
    assert {item["noise_db"][0] for item in items} == {0} and max(item["noise_db"][1] for item in items) < 0


def test_silent_files_give_finite_mixtures(pools, tmp_path):
    for name in ("clean/train/nobody", "noise/train"):
        (tmp_path / name).mkdir(parents=True)
        soundfile.write(tmp_path / name / "zeros.wav", np.zeros(RATE), RATE)
    speech, noise, _ = scan(tmp_path, "train")
    for chosen in ((speech, pools[1]), (pools[0], noise), (speech, noise)):
        noisy, clean = mix(batch_of(NoisySpeech(*chosen, segment_seconds=1.0), 4))
        assert noisy.isfinite().all() and clean.isfinite().all()
        assert noisy.shape == clean.shape == (4, RATE)


def test_clipping_and_drop_outs(pools):
    data = NoisySpeech(
        *pools, segment_seconds=1.0, **PLAIN | {"clip_p": 1.0, "mute_p": 1.0, "mute_seconds": (0.1, 0.2)}
    )
    batch = batch_of(data, 4)
    noisy, clean = mix(batch)
    for row in range(4):
        peak = noisy[row].abs().max()
        assert (noisy[row].abs() > 0.999 * peak).sum() > 3, "a flat top"
        start, stop = batch["mute"][row].int().tolist()
        assert not noisy[row, start:stop].any() and not clean[row, start:stop].any()


def test_low_pass_limits_input_and_target(pools):
    data = NoisySpeech(*pools, segment_seconds=1.0, **PLAIN | {"band_p": 1.0, "band_hz": (3400.0, 3500.0)})
    batch = batch_of(data, 6)
    noisy, clean = mix(batch)
    assert high(clean).max() < 1e-4
    everything = batch["noise_cutoff"] < 4000
    assert high(noisy)[everything].max() < 1e-4 < high(noisy)[~everything].min()


def test_shape_and_room_are_those_of_the_source(pools):
    batch = batch_of(NoisySpeech(*pools, segment_seconds=1.0, **PLAIN | {"snr_db": (0.0, 0.0)}), 2)
    dark = torch.where(torch.tensor(SHAPE_HZ) < 2000, 0.0, -60.0).expand(2, -1)
    for name in ("speech", "noise"):
        noisy, clean = mix(batch | {f"{name}_shape": dark})
        dull, bright = (clean, noisy - clean) if name == "speech" else (noisy - clean, clean)
        assert high(dull).max() < 1e-3 and high(bright).min() > 0.3
    batch = batch_of(NoisySpeech(*pools, segment_seconds=1.0, **PLAIN | {"room_p": 1.0, "noise_only_p": 1.0}), 2)
    impulse = torch.zeros_like(batch["noise"])
    impulse[:, 0, 2000] = 1
    noisy, _ = mix(batch | {"noise": impulse})
    response = batch["room"][0, 1]
    torch.testing.assert_close(noisy[0, 2000:6000] / noisy[0, 2000] * 0.5, response[32:4032], atol=1e-5, rtol=0)


def test_noises_are_added_at_their_levels():
    time = torch.arange(RATE) / RATE
    tones = torch.stack(
        [level * torch.sin(2 * torch.pi * hertz * time) for level, hertz in ((3, 100), (5, 200), (7, 300))]
    )
    both = add_noises(tones[None], torch.tensor([[0.0, -6.0, -torch.inf]]))
    lines = torch.fft.rfft(both[0]).abs() / RATE * 2**0.5  # root mean squares
    torch.testing.assert_close(lines[[100, 200, 300]], torch.tensor([1.0, 10**-0.3, 0.0]), atol=1e-4, rtol=0)


def test_magnitude_of_a_flat_shape_is_one():
    flat = magnitude(torch.zeros(1, len(SHAPE_HZ)), torch.tensor([8000.0]), 257)
    torch.testing.assert_close(flat, torch.ones(1, 257))
    six = magnitude(torch.full((1, len(SHAPE_HZ)), 6.0206), torch.tensor([4000.0]), 257)
    torch.testing.assert_close(six[0, :128], torch.full((128,), 2.0), rtol=1e-4, atol=0)
    assert not six[0, 140:].any()


def test_speed_moves_pitch_and_keeps_length(pools):
    data = NoisySpeech(*pools, segment_seconds=1.0, speed=(0.8, 1.25), **PLAIN)
    assert {data[i]["speech"].shape for i in range(4)} == {(RATE,)}


def test_noise_at_half_speed_is_an_octave_lower():
    class Tone:
        sample_rate = RATE

        def noise(self, rng, samples):
            return np.sin(2 * np.pi * 1000 / RATE * np.arange(samples)).astype(np.float32)

    for speed, hertz in ((1.0, 1000), (0.5, 500), (1.5, 1500)):
        data = NoisySpeech(Tone(), Tone(), segment_seconds=1.0, noise_speed=(speed, speed))
        noise = data.draw_noise(np.random.default_rng(0))
        assert len(noise) == RATE and np.argmax(np.abs(np.fft.rfft(noise))) == hertz
    data = NoisySpeech(Tone(), Tone(), segment_seconds=1.0, noise_speed=(1.4, 1.6))
    assert 1400 <= np.argmax(np.abs(np.fft.rfft(data.draw_noise(np.random.default_rng(0))))) <= 1600


def test_babble_is_many_talkers_at_about_one_level():
    class Talkers:
        sample_rate, calls = RATE, 0

        def speech(self, rng, samples, **options):
            self.calls += 1
            return rng.uniform(0.01, 1) * np.sin(2 * np.pi * 100 * self.calls / RATE * np.arange(samples)).astype("f")

    talkers = Talkers()
    data = NoisySpeech(talkers, None, segment_seconds=1.0, babble_p=1.0, babble_talkers=(4, 4))
    noise = data.draw_noise(np.random.default_rng(0))
    levels = np.abs(np.fft.rfft(noise))[[100, 200, 300, 400]]
    assert talkers.calls == 4 and noise.shape == (RATE,) and levels.max() < 2.01 * levels.min()
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.15, abs=0.05)


def test_codec_keeps_length_and_alignment(pools):
    data = NoisySpeech(*pools, segment_seconds=1.0, codec_p=1.0, level_dbfs=(-25.0, -20.0), **PLAIN)
    batch = batch_of(data, 3)
    coded, clean = mix(batch)
    plain, same = mix(batch | {"codec": torch.zeros(3)})
    torch.testing.assert_close(clean, same)
    assert coded.shape == plain.shape and not torch.equal(coded, plain)
    assert not lag(coded, plain).any()


def test_active_power_ignores_pauses():
    signal = torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))
    paused = torch.cat([signal, torch.zeros(2, 6 * RATE)], 1)
    torch.testing.assert_close(active_power(paused), active_power(signal), rtol=0.02, atol=0)
    # Softer frames count, up to 15.9 dB below the level, which long pauses do not lower.
    for soft_db, expected in ((-17, (1 + 10**-1.7) / 2), (-20, 1.0)):
        levels = torch.tensor([1.0] + [10 ** (soft_db / 20)] + [0.0] * 200)
        assert active_power(levels.repeat_interleave(1000), 1000) == pytest.approx(expected)
    assert not active_power(torch.zeros(1, RATE)).any()
    with pytest.raises(ValueError, match="20 ms"):
        active_power(torch.zeros(1, 100))


def test_import_is_light():
    code = "import sys, deepvqe_hub.data; sys.exit(bool({'torchaudio', 'speechbrain', 'soxr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
