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


@pytest.mark.parametrize("level", [0, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("name", ["deepvqe", "deepvqe-s", "deepvqe-aec", "deepvqe-aec-s"])
def test_roundings_die_away_in_digital_silence(name, level):
    """So that streams and whole signals stay together: a GRU whose input stands still could magnify them for ever.

    A converter may rest at another value than zero.
    """
    model = deepvqe_hub.load(name)
    network, second = model.network, 16000 // model.stft.hop_length * model.stft.hop_length
    waves = [
        torch.nn.functional.pad(
            scenes("echo_mic.flac" if model.farend else "noisy.wav", 2 * second), (0, 3 * second), value=level
        )
    ]
    if model.farend:
        waves.append(torch.nn.functional.pad(scenes("echo_farend.flac", 2 * second), (0, 3 * second)))
    with torch.inference_mode():
        specs = [model.stft.analyse(wave.float())[:, :, : 5 * second // model.stft.hop_length] for wave in waves]
        x = network.encode(*specs, *[None] * (1 - model.farend), network.initial_state(len(waves[0])))[-1].double()
        still = x[:, :, -1:].expand(-1, -1, 500, -1)  # nothing else remembers the speech any more
        assert torch.allclose(x[:, :, -10:], still[:, :, :10], atol=1e-4)
        network.bottle.double()
        state = network.initial_state(len(x), dtype=torch.float64)
        network.bottle(x, state)
        other = {key: value + 1e-9 * torch.randn_like(value) for key, value in state.items()}
        apart = (network.bottle(still, state) - network.bottle(still, other)).abs().amax((1, 2, 3))
    assert apart.max() < 1e-7
