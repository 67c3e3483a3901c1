"""Analysis and synthesis: perfect reconstruction, offline and streaming, and agreement with torch.stft."""

import pytest
import torch

from deepvqe_hub.stft import STFT, Analysis, Synthesis

SETTINGS = [
    {},
    {"window": "hann"},
    {"window": "hann", "padding": "reflect"},
    {"window": "sine", "win_length": 400, "hop_length": 200},
    {"win_length": 512, "hop_length": 128, "scale": 0.25},
    {"win_length": 480, "hop_length": 160, "window": "hann"},
    {"win_length": 2, "hop_length": 1},
]
LENGTHS = [1, 2, 100, 255, 256, 257, 511, 512, 513, 5000]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_reconstruction(settings, length):
    stft, wave = STFT(**settings), torch.rand(2, length) * 2 - 1
    spec = stft.analyse(wave)
    assert spec.shape[:2] == (2, stft.bins) and spec.shape[3] == 2
    again = stft.synthesise(spec, length)
    assert again.shape == wave.shape
    assert (again - wave).abs().max() < 1e-6


@pytest.mark.parametrize("chunk", [1, 37, 256, 1000, "random"])
@pytest.mark.parametrize("settings", SETTINGS[:5])
def test_streaming(settings, chunk):
    stft, wave = STFT(**settings), torch.rand(2, 3000) * 2 - 1
    sizes = torch.randint(0, 300, (200,)).cumsum(0) if chunk == "random" else torch.arange(chunk, 3000, chunk)
    chunks = wave.tensor_split(sizes[sizes < 3000].tolist(), dim=1)
    analysis, synthesis = Analysis(stft), Synthesis(stft)
    specs, waves, given, got = [], [], 0, 0
    for part in chunks:
        specs.append(analysis(part))
        waves.append(synthesis(specs[-1]) if specs[-1].shape[2] else wave[:, :0])
        given, got = given + part.shape[1], got + waves[-1].shape[1]
        assert given - got <= stft.win_length  # the latency
    specs.append(analysis(wave[:, :0], last=True))
    waves.append(synthesis(specs[-1]))
    assert torch.allclose(torch.cat(specs, 2), stft.analyse(wave), atol=1e-5)
    assert (torch.cat(waves, 1)[:, :3000] - wave).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("window", "padding", "mode"), [("hann", "reflect", "reflect"), ("sqrt_hann", "zeros", "constant")]
)
def test_agrees_with_torch(window, padding, mode, error):
    stft, wave = STFT(window=window, padding=padding), torch.randn(2, 256 * 20)
    values, _ = stft.windows(wave)
    assert torch.allclose(values, torch.hann_window(512).pow(1 if window == "hann" else 0.5), atol=1e-6)
    expected = torch.stft(wave, 512, 256, window=values, center=True, pad_mode=mode, return_complex=True)
    spec = stft.analyse(wave)
    assert error(spec, torch.view_as_real(expected)) < 1e-6
    inverse = torch.istft(expected * 0.5, 512, 256, window=values, length=wave.shape[1])
    assert error(stft.synthesise(spec * 0.5, wave.shape[1]), inverse) < 1e-6


def test_synthesis_frame_by_frame():
    """The padding before the signal may take more than one call to be left out."""
    stft, wave = STFT(512, 128), torch.rand(2, 2000) * 2 - 1
    synthesis = Synthesis(stft)
    again = torch.cat([synthesis(frame) for frame in stft.analyse(wave).split(1, 2)], 1)
    assert (again[:, :2000] - wave).abs().max() < 1e-6


def test_defaults_are_what_checkpoints_leave_out():
    assert STFT() == STFT(512, 256, "sqrt_hann", "zeros", 1.0)


def test_scale(error):
    wave = torch.randn(1, 2000)
    assert error(STFT(scale=3.0).analyse(wave), 3 * STFT().analyse(wave)) < 1e-6


def test_spectrum_is_causal():
    """Frame k depends on samples before (k + 1) * hop_length only."""
    stft, wave = STFT(), torch.randn(1, 4096)
    before = stft.analyse(wave)
    wave[:, 2048:] += 1
    after = stft.analyse(wave)
    assert torch.equal(after[:, :, :8], before[:, :, :8])
    assert not torch.equal(after[:, :, 8], before[:, :, 8])


@pytest.mark.parametrize(
    "settings",
    [
        {"win_length": 512, "hop_length": 200},
        {"win_length": 512, "hop_length": 512},
        {"win_length": 1 << 20, "hop_length": 256},
        {"hop_length": 0},
        {"window": "kaiser"},
        {"padding": "circular"},
        {"scale": 0.0},
    ],
)
def test_absurd_settings(settings):
    with pytest.raises(ValueError):
        STFT(**settings)


@pytest.mark.parametrize("length", [400, 1000, 3001])
def test_without_padding(length):
    stft, wave = STFT(400, 200, "sine", padding="none"), torch.rand(2, length) * 2 - 1
    spec = stft.analyse(wave)
    window, _ = stft.windows(wave)
    theirs = torch.stft(wave, 400, 200, window=window, center=False, return_complex=True)
    assert torch.allclose(spec[:, :, : theirs.shape[2]], torch.view_as_real(theirs), atol=1e-5)
    analysis, synthesis = Analysis(stft), Synthesis(stft)
    specs = [analysis(part) for part in wave.split(70, 1)]
    assert torch.allclose(torch.cat([*specs, analysis(wave[:, :0], last=True)], 2), spec, atol=1e-5)
    again = synthesis(spec)[:, :length]
    assert again.shape == wave.shape and (again - wave)[:, 200:].abs().max() < 1e-6
    fade = window[:200].square()  # of analysis and synthesis, with no frame before the first
    assert (again - wave * torch.cat([fade, torch.ones(length - 200)]))[:, :200].abs().max() < 1e-6
