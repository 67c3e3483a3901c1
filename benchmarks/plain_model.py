"""The comparison for offline speed: DeepVQE in the reference's structure, written from its description.

Padding, convolution, batch norm and activation are modules of their own, the mask's neighbourhood is unfolded. Weights
have our names, so that both models compute the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def causal(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, (4, 3), (1, stride))


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 1, 3, 0))
        self.conv, self.bn, self.elu = causal(channels, channels), nn.BatchNorm2d(channels), nn.ELU()

    def forward(self, x):
        return self.elu(self.bn(self.conv(self.pad(x)))) + x


class Encoder(nn.Module):
    def __init__(self, channels: int, out: int):
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 1, 3, 0))
        self.conv, self.bn, self.elu = causal(channels, out, 2), nn.BatchNorm2d(out), nn.ELU()
        self.resblock = Residual(out)

    def forward(self, x):
        return self.resblock(self.elu(self.bn(self.conv(self.pad(x)))))


class Bottleneck(nn.Module):
    def __init__(self, size: int, hidden: int):
        super().__init__()
        self.gru, self.fc = nn.GRU(size, hidden, batch_first=True), nn.Linear(hidden, size)

    def forward(self, x):
        y = x.permute(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)
        y = self.fc(self.gru(y)[0])
        return y.reshape(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).permute(0, 2, 1, 3)


class Subpixel(nn.Module):
    def __init__(self, channels: int, out: int):
        super().__init__()
        self.pad, self.conv = nn.ZeroPad2d((1, 1, 3, 0)), causal(channels, 2 * out)

    def forward(self, x):
        low, high = self.conv(self.pad(x)).chunk(2, dim=1)
        return torch.cat([low, high], dim=-1)


class Decoder(nn.Module):
    def __init__(self, skip: int, channels: int, out: int):
        super().__init__()
        self.skip_conv, self.resblock = nn.Conv2d(skip, channels, 1), Residual(channels)
        self.deconv, self.bn, self.elu = Subpixel(channels, out), nn.BatchNorm2d(out), nn.ELU()

    def forward(self, x, skip):
        return self.elu(self.bn(self.deconv(self.resblock(x + self.skip_conv(skip)))))


class PlainDeepVQE(nn.Module):
    """Waveform (batch, time) to waveform, 16 kHz, window 512, hop 256."""

    def __init__(self):
        super().__init__()
        channels = [2, 64, 128, 128, 128, 128]
        for i in range(5):
            self.add_module(f"enblock{i + 1}", Encoder(channels[i], channels[i + 1]))
        self.bottle = Bottleneck(128 * 9, 576)
        for i, (skip, x, out) in enumerate([(64, 64, 27), (128, 128, 64), *[(128, 128, 128)] * 3]):
            self.add_module(f"deblock{i + 1}", Decoder(skip, x, out))

    def mask(self, mask, spec):
        batch, _, frames, bins = mask.shape
        roots = torch.tensor([[1, -0.5, -0.5], [0, 3**0.5 / 2, -(3**0.5) / 2]], device=mask.device)
        re, im = torch.einsum("ij,bjktf->ibktf", roots, mask.reshape(batch, 3, 9, frames, bins))
        taps = F.unfold(F.pad(spec.permute(0, 3, 2, 1), (1, 1, 2, 0)), (3, 3)).reshape(batch, 2, 9, frames, bins)
        x_re, x_im = taps.unbind(1)
        out = torch.stack([(re * x_re - im * x_im).sum(1), (re * x_im + im * x_re).sum(1)], -1)
        return out.transpose(1, 2)

    def forward(self, wave):
        window = torch.hann_window(512, device=wave.device).sqrt()
        spec = torch.stft(wave, 512, 256, 512, window, pad_mode="constant", return_complex=True)
        spec = torch.view_as_real(spec)
        magnitude = (spec.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        x = (spec / (magnitude.pow(0.7) + 1e-12)).permute(0, 3, 2, 1)
        skips = []
        for i in range(5):
            x = self.get_submodule(f"enblock{i + 1}")(x)
            skips.append(x)
        x = self.bottle(x)
        for i in reversed(range(5)):
            x = self.get_submodule(f"deblock{i + 1}")(x, skips[i])[..., : (skips[i - 1].shape[-1] if i else 257)]
        spec = self.mask(x, spec).contiguous()
        return torch.istft(torch.view_as_complex(spec), 512, 256, 512, window, length=wave.shape[-1])
