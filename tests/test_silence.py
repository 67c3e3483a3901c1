"""What the weights in the package do when a microphone is muted."""

from pathlib import Path

import pytest
import soundfile
import torch

import deepvqe_hub

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def scenes(name: str, length: int, count: int = 6) -> torch.Tensor:
    """Pieces of an example, (count, length), that end at places spread over it."""
    wave = torch.from_numpy(soundfile.read(EXAMPLES / name)[0])
    return torch.stack([wave[end - length : end] for end in torch.linspace(length, len(wave), count).int()])


@pytest.mark.parametrize("name", ["deepvqe", "deepvqe-s", "deepvqe-aec", "deepvqe-aec-s"])
def test_roundings_die_away_in_digital_silence(name):
    """So that streams and whole signals stay together: a GRU whose input stands still could magnify them for ever."""
    model = deepvqe_hub.load(name).double()
    network, second = model.network, 16000 // model.stft.hop_length * model.stft.hop_length
    waves = scenes("echo_mic.flac" if model.farend else "noisy.wav", 2 * second)
    specs = [waves, scenes("echo_farend.flac", 2 * second)] if model.farend else [waves]
    specs = [model.stft.analyse(torch.nn.functional.pad(wave, (0, 3 * second))) for wave in specs]
    with torch.inference_mode():
        state = network.initial_state(len(waves), dtype=torch.float64)
        x = network.encode(*specs, *[None] * (1 - model.farend), state)[-1]
        network.bottle(x, state)
        still = x[:, :, -1:].expand(-1, -1, 500, -1)  # nothing else remembers the speech any more
        assert torch.allclose(x[:, :, -10:], still[:, :, :10], atol=1e-12)
        other = {key: value + 1e-9 * torch.randn_like(value) for key, value in state.items()}
        apart = (network.bottle(still, state) - network.bottle(still, other)).abs().amax((1, 2, 3))
    assert apart.max() < 1e-7
