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


@pytest.mark.parametrize("level", [0, 1e-3, 1e-2])
@pytest.mark.parametrize("name", ["deepvqe", "deepvqe-s", "deepvqe-aec", "deepvqe-aec-s"])
def test_roundings_die_away_in_digital_silence(name, level):
    """So that streams and whole signals stay together: a GRU whose input stands still could magnify them for ever.

    A converter may rest at another value than zero.
    """
    model = deepvqe_hub.load(name).double()
    network, second = model.network, 16000 // model.stft.hop_length * model.stft.hop_length
    files = {"echo_mic.flac": level, "echo_farend.flac": 0} if model.farend else {"noisy.wav": level}
    rest, frames = (0, 3 * second), 5 * second // model.stft.hop_length
    waves = [torch.nn.functional.pad(scenes(name, 2 * second), rest, value=value) for name, value in files.items()]
    with torch.inference_mode():
        specs = [model.stft.analyse(wave)[:, :, :frames] for wave in waves]
        state = network.initial_state(len(waves[0]), dtype=torch.float64)
        x = network.encode(*specs, *[None] * (1 - model.farend), state)[-1]
        network.bottle(x, state)
        still = x[:, :, -1:].expand(-1, -1, 500, -1)  # nothing else remembers the speech any more
        assert torch.allclose(x[:, :, -10:], still[:, :, :10], atol=1e-12)
        other = {key: value + 1e-9 * torch.randn_like(value) for key, value in state.items()}
        apart = (network.bottle(still, state) - network.bottle(still, other)).abs().amax((1, 2, 3))
    assert apart.max() < 1e-7
