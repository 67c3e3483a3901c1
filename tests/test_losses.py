"""Training losses."""

import itertools
import subprocess
import sys

import pytest
import torch

from deepvqe_hub.losses import SpeechLoss, si_sdr
from deepvqe_hub.optim import Muon
from deepvqe_hub.stft import STFT

QUIET = {"complex_weight": 0.0, "magnitude_weight": 0.0, "sisdr_weight": 0.0}


def waves(batch=2, samples=8000):
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.1


def test_equal_signals_cost_nothing_but_si_sdr():
    wave = waves()
    assert SpeechLoss(sisdr_weight=0.0, asymmetric_weight=1.0)(wave, wave) == 0
    assert SpeechLoss(sisdr_weight=0.1)(wave, wave) == pytest.approx(-0.1 * 80, abs=0.1)


def test_si_sdr_by_definition_and_whatever_the_scale():
    target, noise = waves()
    noise = noise - (noise @ target) / (target @ target) * target  # orthogonal
    estimate = target + 0.1 * noise
    expected = 10 * torch.log10(target.square().sum() / (0.01 * noise.square().sum()))
    assert si_sdr(estimate, target) == pytest.approx(float(expected), abs=1e-3)
    assert si_sdr(5 * estimate, target) == pytest.approx(float(expected), abs=1e-3)
    assert si_sdr(noise * target.norm() / noise.norm(), target) == pytest.approx(-80, abs=0.1)


def test_spectral_terms_by_hand():
    """One frame's worth of compressed spectra, computed with torch.stft."""
    target, estimate = waves(samples=7936)

    def compressed(wave, size):
        window = torch.hann_window(size).sqrt()
        spec = torch.stft(wave, size, size // 2, size, window, center=True, pad_mode="constant", return_complex=True)
        return torch.polar(spec.abs().clamp(min=1e-6) ** 0.3, spec.angle())

    terms = ("magnitude_weight", torch.abs), ("complex_weight", torch.view_as_real)
    for (term, parts), (size, stft) in itertools.product(terms, ((512, None), (256, STFT(256, 128)))):
        ours = SpeechLoss(**(QUIET | {term: 1.0}), stft=stft)(estimate[None], target[None])
        theirs = (parts(compressed(estimate, size)) - parts(compressed(target, size))).square().mean()
        assert float(ours) == pytest.approx(float(theirs), rel=1e-3)


def test_a_silent_target_has_no_si_sdr():
    loss, wave = SpeechLoss(**(QUIET | {"sisdr_weight": 1.0})), waves()
    noisy = wave + 0.1 * wave.flip(0)
    alone = float(loss(noisy[:1], wave[:1]))
    assert alone == pytest.approx(-20, abs=0.5)
    for level, heard in ((0.0, 0), (3e-3, 0), (3e-2, 1)):  # times -20 dB; the floor is at -60 dB
        target = torch.stack([wave[0], level * wave[1]])
        other = float(loss(noisy[1:], target[1:]))
        assert (other != 0) == heard
        assert float(loss(noisy, target)) == pytest.approx((alone + other) / 2, abs=1e-3)


def test_asymmetric_term_counts_only_what_is_missing():
    loss, wave = SpeechLoss(**QUIET, asymmetric_weight=1.0), waves()
    assert loss(0.5 * wave, wave) > 1e-3
    assert loss(2.0 * wave, wave) == 0
    assert SpeechLoss(**QUIET)(0.5 * wave, wave) == 0  # off by default


def test_silent_target_rewards_every_decibel_less():
    loss, wave, silence = SpeechLoss(**QUIET, silence_weight=1.0), waves(), torch.zeros(2, 8000)
    levels = [float(loss(10 ** (-db / 20) * wave, silence)) for db in (0, 10, 20, 30)]
    assert levels[0] == pytest.approx(60, abs=1)  # -20 dBFS above a floor of -80 dBFS
    assert [a - b for a, b in itertools.pairwise(levels)] == pytest.approx([10] * 3, abs=0.1)
    assert loss(silence, silence) == 0
    assert loss(wave, wave) == 0  # and says nothing where somebody speaks


def test_a_step_waits_for_no_number():
    """Tensors without numbers have none to look at; on a GPU, looking would hold up every step."""
    waves = torch.zeros(2, 8000, device="meta")
    assert SpeechLoss(asymmetric_weight=1.0, silence_weight=1.0)(waves, waves).shape == ()


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0])
def test_gradients_are_finite_for_silence(scale):
    estimate = (scale * waves()).requires_grad_()
    target = torch.stack([torch.zeros(8000), waves()[1]])
    SpeechLoss(asymmetric_weight=10.0, silence_weight=0.1)(estimate, target).backward()
    assert torch.isfinite(estimate.grad).all()
    if scale == 1.0:
        assert estimate.grad[0].abs().max() > 0


@pytest.mark.parametrize("shapes", [[(3, 8000), (1, 8000)], [(8000,), (8000,)], [(2, 8000), (2, 7999)]])
def test_signals_of_two_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"must both be \(batch, samples\), of one shape; got"):
        SpeechLoss()(*map(torch.zeros, shapes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_counts_as_single(dtype):
    target = torch.stack([torch.zeros(8000), waves()[1]]).to(dtype)
    estimate = (0.5 * waves()).to(dtype).requires_grad_()
    loss = SpeechLoss(asymmetric_weight=10.0, silence_weight=0.1)
    value = loss(estimate, target)
    assert float(value.detach()) == pytest.approx(float(loss(estimate.detach().float(), target.float())), rel=1e-6)
    value.backward()
    assert estimate.grad.isfinite().all()


def test_losses_load_neither_training_data_nor_scores():
    code = "import sys, deepvqe_hub.losses; print([m for m in sys.modules if m.startswith('deepvqe_hub.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "deepvqe_hub.losses" in loaded and "data" not in loaded and "metrics" not in loaded


@pytest.mark.parametrize(
    "option",
    [
        {"lr": -1.0},
        {"weight_decay": -0.1},
        {"eps": -1e-8},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"momentum": 1.0},
        {"betas": (0.9, 1.5)},
    ],
)
def test_muon_refuses_settings_out_of_range(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Muon([torch.nn.Parameter(torch.ones(3))], **option)
