"""What listeners hear, as terms of a training loss: PESQ, STOI and DNSMOS in PyTorch, with gradients.

PESQ (ITU-T P.862.2) is differentiable as J. M. Martin-Donas et al. proposed ("A deep learning loss function based on
the perceptual evaluation of the speech quality", 2018), in the package torch-pesq. STOI (C. H. Taal et al., "An
algorithm for intelligibility prediction of time-frequency weighted noisy speech", 2011) is so by nature, in the package
torch-stoi. DNSMOS P.808 (C. Reddy et al., "DNSMOS", 2021) is a small convolutional network that needs no reference.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import torch
from torch import nn

from deepvqe_hub._optional import need, torchaudio_remedies
from deepvqe_hub.fourier import fft_length

_RATE = 16000  # Hz, unless told otherwise


def _need(module: str, purpose: str) -> ModuleType:
    """`need` for a module that imports torchaudio; where that cannot be done, it is most likely torchaudio's fault."""
    try:
        return need(module, purpose)
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise ImportError(f"{error}\n{torchaudio_remedies()}") from error


def pesq_loss(sample_rate: int = _RATE) -> nn.Module:
    """What PESQ subtracts from its best score, from 0 to about 6: (batch, samples) estimate, target -> (batch,).

    Raises:
        ImportError: without the package torch-pesq, or without a torchaudio that fits torch.
    """
    package = _need("torch_pesq", "pesq_weight")

    class Pesq(package.PesqLoss):
        """Its two recursive filters by products of spectra; torchaudio goes from sample to sample, on a GPU as well."""

        def __init__(self):
            super().__init__(1.0, sample_rate=sample_rate)
            self.to_spec = Power(self.to_spec)
            self.register_buffer("band", impulse_response(self.power_filter), persistent=False)
            self.register_buffer("emphasis", impulse_response(self.pre_filter), persistent=False)

        def forward(self, estimate, target):
            return super().forward(target, estimate)

        def align_level(self, signal):
            level = filtered(signal, self.band).square().sum(1, keepdim=True) / (signal.shape[1] + 5120) / 1.04684
            return signal * (1e7 / level.clamp_min(1e-12)).sqrt()  # silence stays silent, and has a gradient

        def preemphasize(self, signal):
            ramp = torch.arange(1, 16, device=signal.device) / 16  # fades both ends
            ones = signal.new_ones(signal.shape[1] - 30)
            return filtered(signal * torch.cat([ramp, ones, ramp.flip(0)]), self.emphasis)

    return Pesq()


def impulse_response(coefficients: torch.Tensor, samples: int = 1024) -> torch.Tensor:
    """Impulse response of a recursive filter: numerator and denominator, (2, order + 1) -> (samples,).

    Those of PESQ's filters are below -160 dB after 600 samples.
    """
    from scipy.signal import lfilter

    impulse = torch.eye(1, samples, dtype=torch.float64)[0]
    return torch.from_numpy(lfilter(*coefficients.detach().double().numpy(), impulse.numpy())).float()


def filtered(signal: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """Causal convolution of (batch, samples) with (taps,), as long as the signal."""
    size = fft_length(signal.shape[1] + len(response))
    spectrum = torch.fft.rfft(signal, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(spectrum, size)[:, : signal.shape[1]]


def stoi_loss(sample_rate: int = _RATE) -> nn.Module:
    """STOI times -1, from -1 to about 0: (batch, samples) estimate, target -> (batch,).

    Raises:
        ImportError: without the package torch-stoi, or without a torchaudio that fits torch.
    """
    package = _need("torch_stoi", "stoi_weight")

    class Stoi(package.NegSTOILoss):
        """The same for a whole batch at once, in shapes that do not depend on what is heard."""

        @staticmethod
        def remove_silent_frames(x, y, dyn_range, window, framelen, hop):
            x, y = x.unfold(-1, framelen, hop) * window, y.unfold(-1, framelen, hop) * window
            level = 20 * torch.log10(x.norm(dim=-1) + 1e-8)
            heard = level > level.amax(-1, keepdim=True) - dyn_range
            first = heard.int().sort(dim=-1, descending=True, stable=True).indices[..., None]  # they move to the front
            return *(joined((w * heard[..., None]).take_along_dim(first, 1), hop) for w in (x, y)), heard.long()

        @staticmethod
        def stft(x, win, fft_size, overlap):
            frames = x.unfold(-1, len(win), len(win) // overlap)[:, :-1]
            spec = torch.fft.rfft(frames * win, fft_size).transpose(1, 2)
            return spec.where(spec.abs() > 1e-30, 0)  # of which squares are taken; |X| of subnormals has no gradient

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", '"sinc_interpolation" resampling method name')  # an old name of the same
        return Stoi(sample_rate)


def joined(frames: torch.Tensor, hop: int) -> torch.Tensor:
    """Frames of two hops each, overlapping by one, added up: (batch, frames, 2 * hop) -> (batch, samples)."""
    left, right = frames.unflatten(-1, (2, hop)).unbind(-2)
    pad = torch.nn.functional.pad
    return (pad(left, (0, 0, 0, 1)) + pad(right, (0, 0, 1, 0))).flatten(1)


class Power(nn.Module):
    """|X|² of a `torchaudio.transforms.Spectrogram`; by way of |X|, subnormal numbers would have no gradient."""

    def __init__(self, spectrogram: nn.Module):
        super().__init__()
        self.spectrogram = spectrogram
        self.spectrogram.power = None

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(self.spectrogram(wave)).square().sum(-1)


def p808_loss(sample_rate: int = _RATE) -> nn.Module:
    """The score of `P808` times -1, from -5 to -1: (batch, samples) estimate, target (not heard) -> (batch,).

    Raises:
        ImportError: as `P808`.
    """

    class Negative(P808):
        """As a loss, of which less is better."""

        def forward(self, estimate, target):
            return -super().forward(estimate)

    return Negative(sample_rate)


class P808(nn.Module):
    """The network of DNSMOS P.808: (batch, samples) -> (batch,), predicted quality from 1 to 5.

    `deepvqe_hub.metrics.dnsmos_p808` gives the same for 9 s; here signals are scored whole, whatever their length, as
    the network takes the maximum over time. Its weights are fixed; gradients are those of the signal.

    Args:
        sample_rate: in Hz; other rates than 16000 are resampled.

    Raises:
        ImportError: without the packages speechmos, which has the network, and onnx, which reads it; for other rates,
            without a torchaudio that fits torch.
    """

    def __init__(self, sample_rate: int = _RATE):
        from deepvqe_hub.metrics.mos import mel_filters  # scoring, which most losses do without

        super().__init__()
        self.resample = nn.Identity()
        if sample_rate != _RATE:
            transforms = _need("torchaudio.transforms", f"DNSMOS at {sample_rate} Hz")
            self.resample = transforms.Resample(sample_rate, _RATE)
        self.layers = onnx_layers("dnsmos_models/model_v8.onnx")
        self.register_buffer("filters", torch.from_numpy(mel_filters(321, 120)).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(321), persistent=False)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.layers(self.log_mel(wave))[:, 0]

    def log_mel(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> (batch, 1, frames, 120): level in units of 40 dB, 1 at the loudest cell, -1 at least."""
        wave = self.resample(wave).clamp(-1, 1)
        spectra = torch.stft(wave, 321, 160, window=self.window, pad_mode="constant", return_complex=True)
        power = self.filters @ torch.view_as_real(spectra).square().sum(-1)
        level = 10 * power.clamp_min(1e-10).log10().transpose(1, 2)[:, None]
        return (level - level.amax((2, 3), keepdim=True)).clamp_min(-80.0) / 40 + 1


class GlobalMax(nn.Module):
    """The maximum over time and frequency: (batch, channels, frames, bands) -> (batch, channels)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.amax((2, 3))


def onnx_layers(name: str) -> nn.Sequential:
    """A chain of convolutions, maxima and products from a file of `speechmos`, without gradients of their own."""
    onnx = need("onnx", "the loss with DNSMOS")
    from deepvqe_hub.metrics.mos import network_file

    graph = onnx.load(network_file(name)).graph
    weights = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    layers = []
    for node, after in zip(graph.node, [*graph.node[1:], None]):
        if node.op_type == "Conv":
            weight, bias = (weights[name] for name in node.input[1:])
            layers.append(nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], padding="same"))
            layers[-1].load_state_dict({"weight": weight, "bias": bias})
        elif node.op_type == "MatMul":  # followed by the addition of the bias
            weight, bias = weights[node.input[1]], weights[after.input[1]]
            layers.append(nn.Linear(*weight.shape))
            layers[-1].load_state_dict({"weight": weight.T, "bias": bias})
        elif node.op_type in ("Relu", "MaxPool", "ReduceMax"):
            layers.append({"Relu": nn.ReLU(), "MaxPool": nn.MaxPool2d(2), "ReduceMax": GlobalMax()}[node.op_type])
    return nn.Sequential(*layers).requires_grad_(False)
