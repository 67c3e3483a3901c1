"""Terms of the loss that listeners would mind: PESQ, STOI and DNSMOS."""

import sys

import pytest
import torch
from torch.testing import assert_close

from deepvqe_hub.losses import SpeechLoss
from deepvqe_hub.metrics import dnsmos_p808, stoi
from deepvqe_hub.perceptual import P808, p808_loss, pesq_loss, stoi_loss

QUIET = {"complex_weight": 0.0, "magnitude_weight": 0.0, "sisdr_weight": 0.0}


def waves(batch=2, samples=32000):
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.1


def test_pesq_term_orders_as_pesq_does_and_skips_silence():
    pytest.importorskip("torch_pesq")
    loss, (speech, noise) = SpeechLoss(**QUIET, pesq_weight=1.0), waves()
    levels = [float(loss((speech + gain * noise)[None], speech[None])) for gain in (0.0, 0.05, 0.2, 1.0)]
    assert levels[0] == pytest.approx(0, abs=1e-3) and sorted(levels) == levels
    estimate = torch.stack([speech, noise]).requires_grad_()
    loss(estimate, torch.stack([speech + noise, torch.zeros(32000)])).backward()
    assert estimate.grad[0].abs().sum() > 0 and not estimate.grad[1].any()
    assert loss(estimate, torch.zeros(2, 32000)) == 0


def test_pesq_term_has_a_gradient_where_speech_ends_in_silence():
    pytest.importorskip("torch_pesq")
    speech, noise = waves() * (torch.arange(32000) < 16000)
    estimate = (speech + 0.1 * noise)[None].requires_grad_()
    SpeechLoss(**QUIET, pesq_weight=1.0)(estimate, speech[None]).backward()
    assert estimate.grad.isfinite().all() and estimate.grad.any()


def test_pesq_term_is_that_of_the_package():
    package = pytest.importorskip("torch_pesq").PesqLoss(1.0, sample_rate=16000)
    speech, noise = waves()
    for gain in (0.05, 1.0):
        values, grads = [], []
        for loss in (lambda estimate, target: package(target, estimate), pesq_loss()):
            estimate = (speech + gain * noise)[None].requires_grad_()
            values.append(loss(estimate, speech[None].clone()))
            grads.append(torch.autograd.grad(values[-1].sum(), estimate)[0])
        assert values[1].item() == pytest.approx(values[0].item(), abs=2e-3)
        for part in (slice(None), slice(15), slice(-15, None)):  # the ends are faded
            assert (grads[1] - grads[0])[:, part].norm() < 0.01 * grads[0][:, part].norm()


@pytest.mark.parametrize("name", ["pesq", "stoi"])
@pytest.mark.parametrize("level", [0.0, 1e-39])
def test_terms_of_a_silent_estimate(name, level):
    """Whether somebody should be heard or not, as from a model that hears nothing, or a filter that dies away."""
    pytest.importorskip(f"torch_{name}")
    speech, loss = waves(), SpeechLoss(**QUIET, **{f"{name}_weight": 1.0})
    for target, lowest in ((speech[:1], {"pesq": 1, "stoi": -0.1}[name]), (0 * speech[:1], -1e-9)):
        estimate = (level * speech[1:]).requires_grad_()
        value = loss(estimate, target)
        value.backward()
        assert value > lowest and estimate.grad.isfinite().all()


def test_pesq_term_names_the_package_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pesq", None)
    with pytest.raises(ImportError, match="pip install torch-pesq"):
        SpeechLoss(pesq_weight=1.0)


def test_stoi_term_is_that_of_the_measure_and_skips_silence():
    pytest.importorskip("torch_stoi")
    loss, (speech, noise) = SpeechLoss(**QUIET, stoi_weight=20.0), waves()
    for gain in (0.1, 1.0, 3.0):
        noisy = speech + gain * noise
        assert float(loss(noisy[None], speech[None])) == pytest.approx(-20 * stoi(noisy, speech), abs=0.1)
    estimate = torch.stack([speech * (torch.arange(32000) < 16000), noise]).requires_grad_()
    loss(estimate, torch.stack([speech + noise, torch.zeros(32000)])).backward()
    assert estimate.grad.isfinite().all() and estimate.grad[0].any() and not estimate.grad[1].any()
    assert loss(estimate, torch.zeros(2, 32000)) == 0


def test_stoi_term_is_that_of_the_package():
    package, ours = pytest.importorskip("torch_stoi").NegSTOILoss(16000), stoi_loss()
    speech, noise = waves(3), waves(6)[3:]
    speech[0, 9000:20000] *= 1e-4  # a pause, which it does not count
    speech[1, :4000] = 0
    grads = []
    for loss in (package, ours):
        estimate = (speech + 0.7 * noise).requires_grad_()
        values = loss(estimate, speech.clone())
        grads.append(torch.autograd.grad(values.sum(), estimate)[0])
        assert_close(values, package(estimate, speech.clone()), atol=1e-5, rtol=0)
    assert_close(grads[1], grads[0], atol=1e-4 * float(grads[0].abs().max()), rtol=1e-3)


def test_stoi_term_names_the_package_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_stoi", None)
    with pytest.raises(ImportError, match="pip install torch-stoi"):
        SpeechLoss(stoi_weight=1.0)


@pytest.mark.parametrize("options", [{"pesq_weight": 1.0}, {"stoi_weight": 1.0}, {"p808_weight": 1.0}])
def test_a_broken_torchaudio_is_explained(monkeypatch, options):
    for package in ("torch_pesq", "torch_stoi", "speechmos", "onnx"):
        pytest.importorskip(package)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("torchaudio", "torch_pesq", "torch_stoi")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"libc10_cuda(.|\n)*a pair known to work"):
        SpeechLoss(**options, sample_rate=48000)


class Broken:
    """What finds a torchaudio that was built for CUDA beside a torch that was not."""

    def find_spec(self, name, *_):
        if name == "torchaudio._extension":
            raise OSError("libc10_cuda.so: cannot open shared object file")


def p808(**options):
    pytest.importorskip("speechmos")
    pytest.importorskip("onnx")
    return P808(**options)


def test_p808_is_that_of_the_measure():
    tone = torch.sin(torch.arange(144160) * 0.1) * torch.linspace(0, 1, 144160)
    for wave in (*waves(samples=144160), tone, 20 * tone):
        assert float(p808()(wave[None, :-160])) == pytest.approx(dnsmos_p808(wave), abs=1e-4)
    both = p808()(torch.stack([waves()[0], tone[:32000]]))
    assert both.tolist() == pytest.approx([float(p808()(wave[None])) for wave in (waves()[0], tone[:32000])], abs=1e-4)


def test_p808_loss_is_the_score_with_the_sign_of_a_loss():
    network, (speech, noise) = p808(), waves()
    assert torch.equal(p808_loss()(speech[None], noise[None]), -network(speech[None]))


def test_p808_hears_the_same_at_another_rate():
    pytest.importorskip("torchaudio")
    low = torch.nn.functional.interpolate(waves(1, 4000)[None], 16000, mode="linear")[0]  # nothing near the band's end
    high = torch.nn.functional.interpolate(low[None], 48000, mode="linear")[0]
    assert float(p808(sample_rate=48000)(high)) == pytest.approx(float(p808()(low)), abs=0.1)


def test_p808_term_rewards_points_and_skips_silence():
    network, (speech, noise) = p808(), waves()
    loss, estimate = SpeechLoss(**QUIET, p808_weight=2.0), torch.stack([speech, noise]).requires_grad_()
    assert loss(estimate[:1], noise[None]).item() == pytest.approx(-2 * float(network(speech[None])), abs=1e-5)
    loss(estimate, torch.stack([speech + noise, torch.zeros(32000)])).backward()
    assert estimate.grad.isfinite().all() and estimate.grad[0].any() and not estimate.grad[1].any()
    assert loss(estimate, torch.zeros(2, 32000)) == 0
    assert not [parameter for parameter in loss.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("package", ["onnx", "speechmos"])
def test_p808_names_the_packages_it_needs(monkeypatch, package):
    p808()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f'needs the package "{package}": pip install'):
        SpeechLoss(p808_weight=1.0)
