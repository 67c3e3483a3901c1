"""The measures against independent implementations, known values and damaged input."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_cli_evaluate import BlockByBlock
from tiny import CONFIG
from tqdm import tqdm

from deepvqe_hub import EnhancementModel, metrics
from deepvqe_hub.metrics import evaluation, intrusive, mos, report, scoring
from deepvqe_hub.processes import worker_pool

RATE = 16000


def voice(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Harmonics of a moving pitch in syllables and pauses: speech enough for PESQ and STOI."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * seed + 30 * np.sin(2 * np.pi * 0.7 * time + seed)) / rate
    tone = sum(np.cos(k * phase + k * k) / (1 + abs(k - 5)) for k in range(1, 25))
    syllables = np.maximum(0, np.sin(2 * np.pi * (3 + 0.3 * seed) * time + seed))
    words = np.sin(2 * np.pi * 0.4 * time) > -0.5
    return 0.1 * tone * syllables * words + 1e-4 * np.random.default_rng(seed).standard_normal(time.size)


def noisy_voice(seconds: float, level: float = 0.01) -> np.ndarray:
    return voice(seconds) + level * np.random.default_rng(9).standard_normal(int(seconds * RATE))


# --- measures that compare -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_mean", [True, False])
def test_si_sdr_agrees_with_torchmetrics(zero_mean):
    functional = pytest.importorskip("torchmetrics.functional.audio")
    estimate, target = noisy_voice(1) + 0.05, voice(1) - 0.02
    expected = functional.scale_invariant_signal_distortion_ratio(
        torch.from_numpy(estimate), torch.from_numpy(target), zero_mean=zero_mean
    )
    assert metrics.si_sdr(estimate, target, zero_mean=zero_mean) == pytest.approx(float(expected), abs=1e-6)


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_the_energies():
    time = np.arange(RATE) / RATE
    target, noise = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 200 * time)
    estimate = torch.tensor(3 * target + 0.3 * noise, requires_grad=True)
    assert metrics.si_sdr(estimate, target) == pytest.approx(20.0, abs=1e-4)
    assert metrics.si_sdr(target, -5 * target) == 100.0
    assert metrics.si_sdr(noise, target) == -100.0


def test_pesq_takes_the_reference_as_the_reference():
    pesq = pytest.importorskip("pesq")
    estimate, target = noisy_voice(4), voice(4)
    score = metrics.pesq_wb(estimate, target)
    assert score == pytest.approx(pesq.pesq(RATE, target, estimate, "wb"), abs=1e-6)
    assert abs(score - pesq.pesq(RATE, estimate, target, "wb")) > 0.01  # or the check above says nothing
    assert metrics.pesq_wb(target, target) == pytest.approx(4.64, abs=0.01)


def test_pesq_of_a_long_clip_never_reaches_the_ITU_code_in_one_piece(monkeypatch):
    pesq = pytest.importorskip("pesq")
    sizes = []

    def score(rate, reference, degraded, mode):
        sizes.append((len(reference), len(degraded)))
        if len(sizes) == 2:
            raise pesq.NoUtterancesError(b"a pause")
        return float(len(sizes))

    monkeypatch.setattr(pesq, "pesq", score)
    wav = voice(45)
    assert metrics.pesq_wb(wav, wav) == 2.0  # of 1, a pause, 3
    assert sizes == [(15 * RATE, 15 * RATE)] * 3


@pytest.mark.parametrize("left", [0, 1e-6])
def test_pesq_of_speech_that_is_muted_for_whole_pieces(left):
    pytest.importorskip("pesq")
    pause = 1e-4 * np.random.default_rng(0).standard_normal(15 * RATE)
    target = np.concatenate([voice(30), pause])  # pieces: speech, speech, its noise
    estimate = target.copy()
    assert metrics.pesq_wb(estimate, target) == pytest.approx(4.64, abs=0.01)
    estimate[30 * RATE :] *= left
    assert metrics.pesq_wb(estimate, target) == pytest.approx(4.64, abs=0.01)
    estimate[15 * RATE :] *= left
    assert metrics.pesq_wb(estimate, target) == pytest.approx((4.64 + 1.04) / 2, abs=0.01)


def test_stoi_and_estoi_are_those_of_pystoi():
    pystoi = pytest.importorskip("pystoi")
    estimate, target = noisy_voice(3, 0.1), voice(3)
    assert metrics.stoi(estimate, target) == pytest.approx(pystoi.stoi(target, estimate, RATE), abs=1e-9)
    extended = pystoi.stoi(target, estimate, RATE, extended=True)
    assert metrics.estoi(estimate, target) == pytest.approx(extended, abs=1e-9)
    assert metrics.stoi(estimate, target) > extended + 0.05


def test_other_rates_are_resampled():
    pytest.importorskip("pystoi")
    estimate, target = noisy_voice(3, 0.1), voice(3)
    at_48k = [intrusive.signal(wav, RATE, "signal") for wav in (estimate, target)]
    at_48k = [scoring.resample(wav, RATE, 48000) for wav in at_48k]
    assert len(at_48k[0]) == 3 * 48000
    assert metrics.stoi(*at_48k, 48000) == pytest.approx(metrics.stoi(estimate, target), abs=2e-3)
    assert metrics.stoi(*at_48k, 16000) != pytest.approx(metrics.stoi(estimate, target), abs=2e-2)


def test_erle():
    mic = voice(1)
    assert metrics.erle(0.5 * mic, mic) == pytest.approx(6.0206, abs=1e-4)
    assert metrics.erle(0 * mic, mic) == 100.0


@pytest.mark.parametrize(
    ("measure", "estimate", "target", "reason"),
    [
        ("si_sdr", voice(1), 0 * voice(1), "reference is silent"),
        ("si_sdr", 0 * voice(1), voice(1), "enhanced signal is silent"),
        ("si_sdr", 1 + 0 * voice(1), voice(1), "constant"),
        ("si_sdr", np.full(RATE, np.nan), voice(1), "NaN"),
        ("pesq_wb", voice(1)[:3000], voice(1)[:3000], "shorter than 0.25 s"),
        ("pesq_wb", voice(1), 0 * voice(1), "reference is silent"),
        ("stoi", voice(1)[:5000], voice(1)[:5000], "shorter than 0.4 s"),
        ("stoi", voice(2), np.where(np.arange(2 * RATE) < 3000, voice(2), 0), "0.4 s of speech"),
        ("estoi", np.zeros(0), np.zeros(0), "empty"),
    ],
)
def test_what_cannot_be_scored_says_why(measure, estimate, target, reason):
    for package in metrics.METRICS[measure].packages:
        pytest.importorskip(package)
    with pytest.raises(metrics.UnscorableError, match=reason):
        getattr(metrics, measure)(estimate, target)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_integers_are_not_taken_for_full_scale(kind):
    wave = (voice(1) * 32767).astype(np.int16)
    for call in (metrics.si_sdr, lambda a, b: metrics.evaluate_tensors(a, b, RATE, "si_sdr")):
        with pytest.raises(ValueError, match=r"the samples are int16; convert them to floating point"):
            call(kind(wave), kind(wave))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"enhanced signal and reference differ in length: 16000 and 8000"):
        metrics.si_sdr(voice(1), voice(0.5))
    with pytest.raises(ValueError, match=r"one channel.*\(1, 16000\)"):
        metrics.si_sdr(voice(1)[None], voice(1)[None])


# --- predicted opinion scores ----------------------------------------------------------------------------------


@pytest.fixture
def networks():
    pytest.importorskip("onnxruntime")
    if importlib.util.find_spec("speechmos") is None:
        pytest.skip("speechmos is not installed")


# speechmos 0.0.1.1 with librosa 0.11.0 on the same signals: repeated, as it is, several windows
@pytest.mark.parametrize(
    ("seconds", "sig", "bak", "ovrl", "p808"),
    [(3, 1.9350, 3.6042, 1.7420, 2.1715), (10, 1.6815, 3.5725, 1.4754, 2.2002), (17.5, 1.6321, 3.5168, 1.4384, 2.1343)],
)
def test_dnsmos_agrees_with_speechmos(networks, seconds, sig, bak, ovrl, p808):
    expected = {"sig": sig, "bak": bak, "ovrl": ovrl, "p808": p808}
    assert metrics.dnsmos(voice(seconds)) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("talk", "echo", "deg"),
    [("st", 2.3470, 4.9999), ("nst", 4.9999, 3.3121), ("dt", 4.1912, 3.7853), (None, 1.7572, 4.9944)],
)
def test_aecmos_agrees_with_speechmos(networks, talk, echo, deg):
    near, far = voice(5, 1), voice(5, 2)
    mic, estimate = near + 0.5 * np.roll(far, 800), near + 0.05 * np.roll(far, 800)
    assert metrics.aecmos(estimate, mic, far, talk=talk) == pytest.approx({"echo": echo, "deg": deg}, abs=2e-3)


def test_aecmos_refuses_unknown_talk_types_and_allows_silence(networks):
    wav = voice(1)
    with pytest.raises(ValueError, match="'farend'"):
        metrics.aecmos(wav, wav, wav, talk="farend")
    assert metrics.aecmos(0 * wav, wav, wav, talk="st")["echo"] > metrics.aecmos(wav, wav, wav, talk="st")["echo"]


def test_aecmos_hears_what_all_signals_share_of_twenty_seconds_within_full_scale(monkeypatch):
    heard = []

    class Network:
        def get_inputs(self):
            return [type("Input", (), {"name": "spectra"})]

        def run(self, _, inputs):
            heard.append(inputs["spectra"])
            return [np.array([[1.0, 2.0]])]

    monkeypatch.setattr(mos, "_network", lambda _: Network())
    for seconds in ((1, 2, 3), (3, 1, 2), (2, 3, 1), (21, 22, 23)):
        assert mos.aecmos(*(np.full(16000 * s, 0.1) for s in seconds)) == {"echo": 1.0, "deg": 2.0}
    assert [spectra.shape[2] for spectra in heard] == [15999 // 256 + 1] * 3 + [319999 // 256 + 1]
    loud = 3 * voice(1) / np.abs(voice(1)).max()
    mos.aecmos(loud, loud, loud), mos.aecmos(*[np.clip(loud, -1, 1)] * 3)
    np.testing.assert_array_equal(heard[-1], heard[-2])


def test_dnsmos_clips_at_full_scale_and_refuses_silence(networks):
    loud = 20 * voice(9.1)
    assert metrics.dnsmos_p835(loud) == metrics.dnsmos_p835(np.clip(loud, -1, 1)) != metrics.dnsmos_p835(loud / 10)
    with pytest.raises(metrics.UnscorableError, match="silent"):
        metrics.dnsmos_p835(np.zeros(RATE))
    with pytest.raises(metrics.UnscorableError, match="shorter"):
        metrics.dnsmos_p808(voice(0.1))


def test_networks_are_loaded_once_and_take_one_thread(networks):
    network = mos._network("dnsmos_models/sig_bak_ovr.onnx")
    assert network is mos._network("dnsmos_models/sig_bak_ovr.onnx")
    assert network.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(
    ("package", "measure"),
    [("pesq", "pesq_wb"), ("pystoi", "stoi"), ("speechmos", "dnsmos_sig"), ("onnxruntime", "aecmos_echo")],
)
def test_a_missing_package_names_the_remedy(monkeypatch, package, measure):
    monkeypatch.setitem(sys.modules, package, None)
    signals = {"noisy": voice(1), "farend": voice(1)} if measure == "aecmos_echo" else {}
    with pytest.raises(ImportError, match=rf'"{package}": pip install "deepvqe-hub\[metrics\]"'):
        metrics.evaluate_tensors(voice(1), voice(1), metrics=[measure], **signals)


# --- the table, tensors ----------------------------------------------------------------------------------------


def test_every_measure_of_the_table_is_computed_and_nothing_else():
    assert sorted(name for names in scoring._COMPUTE for name in names) == sorted(metrics.METRICS)
    for names in scoring._COMPUTE:  # what is computed together needs the same
        assert len({metrics.METRICS[name].needs for name in names}) == 1


def test_a_measure_of_ones_own(monkeypatch, tmp_path):
    def snr(enhanced, reference):
        if not reference.any():
            raise metrics.UnscorableError("the reference is silent")
        return 10 * np.log10(np.mean(reference**2) / np.mean((enhanced - reference) ** 2))

    monkeypatch.setitem(metrics.METRICS, "snr", metrics.Metric("SNR", ("reference",), "dB", "", compute=snr))
    clean = np.stack([voice(1), 0 * voice(1)])
    scores = metrics.evaluate_tensors(clean * 1.1, clean, metrics="snr,si_sdr")
    assert list(scores) == ["si_sdr", "snr"]
    assert scores["snr"] == pytest.approx([20.0, np.nan], nan_ok=True)
    for name, wave in (("clean", clean[0]), ("silent", clean[1]), ("enhanced", clean[0] * 1.1)):
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE, "FLOAT")
    assert "snr" in metrics.evaluate_file(tmp_path / "enhanced.wav", tmp_path / "clean.wav")
    notes = metrics.evaluate_file(tmp_path / "enhanced.wav", tmp_path / "silent.wav", metrics="snr")["notes"]
    assert notes == {"snr": "the reference is silent"}
    with pytest.raises(ValueError, match="SNR needs the reference"):
        metrics.evaluate_file(tmp_path / "enhanced.wav", metrics="snr")


def test_a_measure_of_ones_own_that_fails_stops_no_other(monkeypatch):
    measures = {"stray": lambda _: {}["a key"], "Odd-One": lambda _: None, "pair": lambda _: [1.0, 2.0]}
    for name, measure in measures.items():
        monkeypatch.setitem(metrics.METRICS, name, metrics.Metric(name, (), "", "", compute=measure))
    scores, reasons = scoring.score_channels(voice(1)[None], {}, metrics.select_metrics("stray,Odd-One,pair"))
    assert np.isnan(list(scores.values())).all()
    assert reasons["stray"] == "KeyError: 'a key'"
    assert all("TypeError" in reasons[name] for name in ("Odd-One", "pair"))


def test_selecting_metrics():
    assert metrics.select_metrics("si-sdr, DNSMOS") == [
        *(f"dnsmos_{n}" for n in ("sig", "bak", "ovrl", "p808")),
        "si_sdr",
    ]
    with pytest.raises(ValueError, match=r"'mos'.*pesq_wb"):
        metrics.select_metrics(["mos"])
    assert metrics.available_metrics(reference=True)[-1] == "si_sdr"
    assert "erle" not in metrics.available_metrics(noisy=True)
    assert "erle" in metrics.available_metrics(noisy=True, farend=True)


def test_evaluate_tensors_scores_rows_up_to_their_lengths():
    target = torch.from_numpy(np.stack([voice(2), voice(2, 1)])).float()
    estimate = target + 0.05 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    estimate[1, RATE:] = 7.0  # beyond the end: must not count
    expected = [metrics.si_sdr(estimate[0], target[0]), metrics.si_sdr(estimate[1, :RATE], target[1, :RATE])]
    for lengths in (torch.tensor([2 * RATE, RATE]), torch.tensor([1.0, 0.5])):
        scores = metrics.evaluate_tensors(estimate.requires_grad_(), target, RATE, "si_sdr", lengths=lengths)
        assert scores["si_sdr"] == pytest.approx(expected)
    assert metrics.evaluate_tensors(estimate, target, RATE, "si_sdr")["si_sdr"][1] < expected[1] - 10
    talks = metrics.evaluate_tensors(target / 2, noisy=target, metrics="erle", talk=["dt", "st"])["erle"]
    assert np.isnan(talks[0]) and talks[1] == pytest.approx(6.02, abs=0.01), "each row by its talk type"


def test_evaluate_tensors_gives_nan_where_nothing_is_defined():
    target = torch.from_numpy(np.stack([voice(1), 0 * voice(1)]))
    scores = metrics.evaluate_tensors(target + 0.1, target, metrics=("si_sdr", "stoi"))
    assert np.isfinite(scores["stoi"]).tolist() == np.isfinite(scores["si_sdr"]).tolist() == [True, False]


def test_evaluate_tensors_resamples_and_checks():
    target = voice(2, rate=32000)
    at_16k = [scoring.resample(wav, 32000) for wav in (0.5 * target + 0.01, target)]
    scores = metrics.evaluate_tensors(torch.from_numpy(0.5 * target + 0.01), target, 32000, "stoi")
    assert scores["stoi"] == pytest.approx([metrics.stoi(*at_16k)])
    halved = metrics.evaluate_tensors(torch.from_numpy(target).bfloat16(), target, 32000, "stoi")
    assert halved["stoi"] == pytest.approx([1.0], abs=0.03)  # numpy itself has no bfloat16
    with pytest.raises(ValueError, match=r"SI-SDR needs the reference"):
        metrics.evaluate_tensors(target, metrics="si_sdr")
    with pytest.raises(ValueError, match=r"reference \(1, 100\)"):
        metrics.evaluate_tensors(target, target[:100], metrics="si_sdr")
    with pytest.raises(ValueError, match="talk type 'x'"):
        metrics.evaluate_tensors(target, target, metrics="si_sdr", talk="x")
    with pytest.raises(ValueError, match=r"enhanced \(1, 1, .*must be \(time,\) or \(batch, time\)"):
        metrics.evaluate_tensors(target[None, None], target[None, None], metrics="si_sdr")
    pair = np.stack([target, target])
    with pytest.raises(ValueError, match="talk has 1 entries for a batch of 2"):
        metrics.evaluate_tensors(pair, pair, metrics="si_sdr", talk=["dt"])
    for lengths in ([1.5, 1.0], [-0.5, 1.0], [len(target) + 1, 5]):
        with pytest.raises(ValueError, match="lengths are shares"):
            metrics.evaluate_tensors(pair, pair, metrics="si_sdr", lengths=lengths)


def test_notes_stand_last_where_there_are_any():
    results = [{"file": "a", "notes": {"failed": "gone"}}, {"file": "b", "si_sdr": 1.5, "notes": {}}]
    assert report.to_csv(results) == "file,si_sdr,notes\na,,failed: gone\nb,1.5,\n"
    assert report.to_csv([{"model": "a", "streams": True}]) == "model,streams\na,True\n"


def test_unforeseen_errors_become_notes(monkeypatch):
    monkeypatch.setattr(intrusive, "si_sdr", lambda *_: 1 / 0)
    scores, reasons = scoring.score_channels(voice(1)[None], {"reference": voice(1)[None]}, ["si_sdr"])
    assert np.isnan(scores["si_sdr"]) and reasons == {"si_sdr": "ZeroDivisionError: division by zero"}


# --- files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """write(name, wav, rate=16000) -> path"""

    def write(name, wav, rate=RATE):
        soundfile.write(tmp_path / name, wav, rate, subtype="FLOAT" if name.endswith("wav") else None)
        return tmp_path / name

    return write


def test_each_channel_is_scored_and_averaged(files):
    target = files("target.wav", voice(2))
    left, right = noisy_voice(2, 0.01), noisy_voice(2, 0.1)
    stereo = files("stereo.wav", np.stack([left, right], 1))
    each = [metrics.si_sdr(wav, voice(2)) for wav in (left, right)]
    result = metrics.evaluate_file(stereo, target, metrics="si_sdr")
    assert result["si_sdr"] == pytest.approx(np.mean(each), abs=1e-3) and abs(each[0] - each[1]) > 10
    both = files("both.wav", np.stack([left, voice(2)], 1))  # each channel with its own reference
    assert metrics.evaluate_file(stereo, both, metrics="si_sdr")["si_sdr"] == pytest.approx(
        (100 + each[1]) / 2, abs=1e-3
    )
    three = files("three.wav", np.stack([left] * 3, 1))
    assert "3 channels" in metrics.evaluate_file(stereo, three, metrics="si_sdr")["notes"]["si_sdr"]
    with pytest.raises(ValueError, match="'deepvqe-t' is neither"):
        metrics.evaluate_file(stereo, both, metrics="si_sdr", model="deepvqe-t")


def test_rates_and_lengths_may_differ(files):
    enhanced = files("enhanced.flac", voice(2, rate=48000), 48000)
    reference = files("reference.wav", voice(2.5))
    result = metrics.evaluate_file(enhanced, reference, metrics="stoi")
    assert result["seconds"] == 2.0 and result["file"] == "enhanced.flac"
    assert result["stoi"] > 0.98 and result["notes"] == {"reference": "0.50 s longer than the enhanced file"}


def test_a_bad_file_is_noted_and_the_run_goes_on(files, tmp_path):
    good, silent = files("good.wav", voice(1)), files("silent.wav", 0 * voice(1))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio")
    cases = [metrics.Case(path, good) for path in (broken, silent, good)]
    results = metrics.evaluate_files(cases, metrics="si_sdr")
    assert [result["file"] for result in results] == ["broken.wav", "silent.wav", "good.wav"]
    assert "broken.wav: not an audio file" in results[0]["notes"]["failed"]
    assert metrics.evaluate_files([str(broken)])[0]["notes"] == results[0]["notes"]
    assert results[1]["notes"] == {"si_sdr": "the enhanced signal is silent"}
    assert np.isnan([results[0]["si_sdr"], results[1]["si_sdr"]]).all() and results[2]["si_sdr"] == 100
    assert results[2]["notes"] == {}


def test_a_truncated_file_is_not_scored_for_what_is_left_of_it(files, tmp_path):
    good, cut = files("good.wav", voice(2)), tmp_path / "cut.wav"
    cut.write_bytes(good.read_bytes()[:20000])
    result = metrics.evaluate_file(good, cut, metrics="si_sdr")
    assert "reference file cannot be read" in result["notes"]["failed"]
    assert "cut.wav: truncated" in result["notes"]["failed"] and np.isnan(result["si_sdr"])


def test_talk_types_decide_which_measures_are_defined(files, monkeypatch):
    monkeypatch.setattr(mos, "aecmos", lambda *_, talk: {"echo": 2.0, "deg": 3.0})
    mic, near, far = files("mic.wav", voice(1)), files("near.wav", 0.5 * voice(1)), files("far.wav", voice(0.4))
    names = ("si_sdr", "aecmos", "erle")

    def scored(talk):
        result = metrics.evaluate_file(near, mic, noisy=mic, farend=far, metrics=names, talk=talk)
        return {name for name in metrics.select_metrics(names) if np.isfinite(result[name])}, result["notes"]

    assert scored("st")[0] == {"aecmos_echo", "erle"}
    assert scored("nst")[0] == {"si_sdr", "aecmos_deg"}
    assert scored("dt")[0] == {"si_sdr", "aecmos_echo", "aecmos_deg"}
    defined, notes = scored(None)
    assert defined == {"si_sdr", "aecmos_echo", "aecmos_deg"} and "talk type" in notes["erle"]
    with pytest.raises(ValueError, match="talk type 'both'"):
        scored("both")


class Killer(os.PathLike):
    """A path that ends the process that receives it."""

    def __fspath__(self):
        return "killer.wav"

    def __reduce__(self):
        return os._exit, (1,)


def test_processes_give_the_same_and_survive_the_death_of_one(files, monkeypatch):
    paths = [files(f"{i}.wav", noisy_voice(1, 0.01 * (i + 1))) for i in range(3)]
    cases = [metrics.Case(path, paths[0]) for path in paths]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    results = metrics.evaluate_files([cases[0], metrics.Case(Killer(), paths[0]), *cases[1:]], metrics="si_sdr", jobs=2)
    assert results[1]["file"] == "killer.wav" and results[1]["notes"] == {"failed": "the process that scored it died"}
    del results[1]
    alone = metrics.evaluate_files(cases, metrics="si_sdr")
    assert [row["file"] for row in results] == [row["file"] for row in alone]
    # The last bit depends on the number of threads.
    assert [row["si_sdr"] for row in results] == pytest.approx([row["si_sdr"] for row in alone], rel=1e-12)
    assert os.environ["OMP_NUM_THREADS"] == "3" and "MKL_NUM_THREADS" not in os.environ


def test_the_death_of_a_process_leaves_the_others_their_pool(monkeypatch):
    begun = []

    def counted(processes):
        begun.append(processes)
        return worker_pool(processes)

    monkeypatch.setattr(evaluation, "worker_pool", counted)
    monkeypatch.setattr(evaluation, "evaluate_file", unhurried)
    cases = [metrics.Case(f"{i}.wav") for i in range(12)]
    cases.insert(1, metrics.Case(Killer()))
    results = evaluation._in_processes(cases, {}, 2, tqdm(disable=True))
    assert [row["file"] for row in results] == ["0.wav", "killer.wav", *(f"{i}.wav" for i in range(1, 12))]
    assert [bool(row["notes"]) for row in results] == [False, True] + [False] * 11
    assert len(begun) < 8  # not one for each file that is left


def test_a_pool_that_breaks_while_files_are_submitted(monkeypatch):
    @contextlib.contextmanager
    def broken(processes):
        def submit(function, case, **_):
            if processes > 1 and case.name == "2" and not died:
                died.append(case)
                raise BrokenProcessPool
            future = concurrent.futures.Future()
            future.set_result(function(case))
            return future

        yield submit

    died = []
    monkeypatch.setattr(evaluation, "worker_pool", broken)
    monkeypatch.setattr(evaluation, "evaluate_file", evaluation._blank)
    cases = [metrics.Case(Path("x.wav"), name=str(i)) for i in range(9)]
    results = evaluation._in_processes(cases, {}, 2, tqdm(disable=True))
    assert [row["file"] for row in results] == [case.name for case in cases]


def unhurried(case: metrics.Case, **_) -> dict:
    """In the place of evaluate_file, so slow that most files are left when a process dies."""
    time.sleep(0.2)
    return evaluation._blank(case)


def held(case: metrics.Case, **_) -> dict:
    """In the place of evaluate_file; in processes, therefore not monkeypatched there. The first goes on at once."""
    go, until = Path(case.enhanced).with_name("go"), time.monotonic() + 10
    while Path(case.enhanced).stem != "0" and not go.exists() and time.monotonic() < until:
        time.sleep(0.05)
    Path(case.enhanced).with_suffix(".done").touch()
    return {"file": str(case.enhanced), "notes": {}}


def test_an_interruption_ends_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate_file", held)
    cases = [metrics.Case(tmp_path / f"{i}.wav") for i in range(20)]

    class Bar:
        def update(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation._in_processes(cases, {}, 2, Bar())
    (tmp_path / "go").touch()
    time.sleep(1.5)
    assert [path.name for path in tmp_path.glob("*.done")] == ["0.done"]


def test_means_of_input_and_output_are_over_the_same_files():
    silenced = {"file": "a", "si_sdr": float("nan"), "noisy_si_sdr": -20.0, "notes": {}}
    kept = {"file": "b", "si_sdr": 10.0, "noisy_si_sdr": 12.0, "notes": {}}
    summary = report.summarise([silenced, kept], ["si_sdr"])["si_sdr"]
    assert (summary["noisy"]["mean"], summary["mean"], summary["change"]["mean"]) == (12.0, 10.0, -2.0)


def test_one_failure_among_many_moves_the_mean_and_not_the_median():
    results = [{"file": str(erle), "erle": erle, "notes": {}} for erle in (40.0, 41.0, 42.0, 43.0, 4.0, float("nan"))]
    summary = report.summarise(results, ["erle"])["erle"]
    assert (summary["n"], summary["mean"], summary["median"]) == (5, 34.0, 41.0)


def test_model_is_run_at_its_own_rate(files, monkeypatch):
    import deepvqe_hub

    calls, fars = [], []

    class Stub:
        sample_rate, farend = 8000, True

        def stream(self, batch_size=1):
            return BlockByBlock(self.half, batch_size)

        def half(self, noisy, farend):
            calls.append((noisy.shape, None if farend is None else farend.shape, noisy.dtype))
            fars.append(farend)
            return noisy / 2

    monkeypatch.setattr(deepvqe_hub, "load", lambda name: Stub(), raising=False)
    evaluation._load.cache_clear()
    mic = files("mic.wav", np.stack([voice(1), voice(1, 1)], 1))
    result = metrics.evaluate_file(mic, mic, model="stub", metrics=("si_sdr", "erle"), talk="nst", farend=mic)
    assert calls == [((2, 8000), (2, 8000), np.float32)]
    assert result["si_sdr"] > 10 and result["noisy_si_sdr"] == 100 and "noisy_erle" not in result
    far = files("far.wav", voice(0.5, rate=48000), 48000)  # of a rate of its own
    result = metrics.evaluate_file(mic, model="stub", metrics="erle", talk="st", farend=far)
    assert result["erle"] == pytest.approx(6.02, abs=0.05) and calls[1] == calls[0]  # one channel, padded
    assert (fars[1][0] == fars[1][1]).all() and fars[1][0, :4000].any() and not fars[1][:, 4000:].any()

    mono, stereo = files("mono.wav", voice(1)), mic
    result = metrics.evaluate_file(mono, model="stub", metrics="erle,aecmos", talk="st", farend=stereo)
    assert calls[2][1] == (1, 8000) and result["notes"] == {}  # the mean of its channels
    np.testing.assert_allclose(fars[2][0], fars[0].mean(0), atol=1e-6)

    Stub.farend = False  # a model without far end is run without
    metrics.evaluate_file(mic, model="stub", metrics="erle", talk="st", farend=mic)
    assert calls[3] == ((2, 8000), None, np.float32)
    evaluation._load.cache_clear()


def test_weights_written_anew_are_scored_anew(files, tmp_path):
    noisy, scores = files("noisy.wav", voice(1)), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        EnhancementModel.from_config(CONFIG).save_pretrained(tmp_path / "model")
        scores.append(metrics.evaluate_file(noisy, noisy, model=str(tmp_path / "model"), metrics="si_sdr")["si_sdr"])
    assert scores[0] != scores[1]


@pytest.mark.slow
def test_known_means_of_a_corpus():
    corpus = Path(__file__).parents[2] / "shared" / "corpus" / "noisy_test"
    if not corpus.is_dir():
        pytest.skip("the corpus is not here")
    cases = [metrics.Case(path, corpus / "clean" / path.name) for path in sorted((corpus / "noisy").iterdir())]
    results = metrics.evaluate_files(cases)
    expected = {"pesq_wb": 1.249, "stoi": 0.772, "si_sdr": 3.03, "dnsmos_ovrl": 1.908, "dnsmos_p808": 2.628}
    means = {name: np.mean([result[name] for result in results]) for name in expected}
    assert means == pytest.approx(expected, abs=5e-3)
