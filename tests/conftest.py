"""Helpers that tests share."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hub_server import TINY
from tiny import RESIDUAL_FAREND, RESIDUAL_OPTIONS

from deepvqe_hub import EnhancementModel
from deepvqe_hub.hub import save_folder
from deepvqe_hub.models import DeepVQE

torch.set_num_threads(1)  # the networks of these tests are too small to share among threads

DATA = Path(__file__).resolve().parent / "data"  # deepvqe_seed.npz: what github.com/Xiaobin-Rong/deepvqe gave
PARITY = DATA.parents[1] / "../shared/parity"  # larger files, which are not in the repository


@pytest.fixture
def parity():
    """The path of a file of numbers made by another implementation; skips the test where it is not at hand."""

    def path(name: str) -> Path:
        found = next((folder / name for folder in (DATA, PARITY) if (folder / name).exists()), None)
        return found or pytest.skip(f"needs {name}")

    return path


@pytest.fixture(scope="session")
def seed_weights():
    """The weights behind `deepvqe_seed.npz`: drawn from one generator in the order of the sorted keys."""
    generator, weights = torch.Generator().manual_seed(20261122), {}
    for name, tensor in sorted(DeepVQE(upsampling="concat", mask_activation=True).state_dict().items()):
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1000)
        elif name.endswith("running_var") or (".bn." in name and name.endswith("weight")):
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.5
        else:
            fan = tensor[0].numel() if tensor.dim() > 1 else 16
            weights[name] = torch.randn(tensor.shape, generator=generator) / math.sqrt(fan)
    return weights


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def error():
    """Relative error: RMS of the difference over RMS of the reference."""

    @torch.no_grad()
    def relative(value, reference) -> float:
        value, reference = torch.as_tensor(value), torch.as_tensor(reference)
        assert value.shape == reference.shape
        return float((value - reference).double().norm() / reference.double().norm().clamp(min=1e-30))

    return relative


@pytest.fixture
def lively():
    """Gives a fresh network biases and norm statistics like a trained one's, so that no term hides behind 0 or 1."""

    def enliven(module: torch.nn.Module) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(1)
        for name, tensor in module.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
            elif name.endswith("running_var"):
                tensor += torch.rand(tensor.shape, generator=generator) - 0.5
        return module.eval()

    return enliven


@pytest.fixture
def model():
    return EnhancementModel.from_config(TINY)


@pytest.fixture
def folder(model, tmp_path):
    """A checkpoint folder of `model`."""
    return save_folder(model, tmp_path / "checkpoint", {"name": "tiny", "results": {"DNS3": {"PESQ-WB": 2.5}}})


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder as the DNS3 data unpack: eight readers, six noises, four rooms, and a file that is no audio."""
    root = tmp_path_factory.mktemp("datasets")
    rng = np.random.default_rng(0)
    time_axis = np.arange(16000) / 16000

    def write(name, wave):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, wave.astype(np.float32), 16000)

    for reader in range(8):
        tone = 0.1 * np.sin(2 * np.pi * (120 + 30 * reader) * time_axis) * (np.sin(2 * np.pi * 3 * time_axis) > -0.5)
        tone += 1e-3 * rng.standard_normal(16000)  # on digital silence the loss magnifies rounding errors
        for book in range(2):
            write(f"clean/read_speech/book_0000{book}_chp_0001_reader_{reader:05d}_{book}.wav", tone)
    for number in range(6):
        write(f"noise/door_{number}.wav", 0.05 * rng.standard_normal(16000))
    for number in range(4):
        room = rng.standard_normal(3000) * np.exp(-np.arange(3000) / 400)
        for place in range(2):
            write(f"impulse_responses/SLR26/Room{number:03d}/Room{number:03d}-0000{place}.wav", 0.1 * room)
    (root / "clean/read_speech/broken.wav").write_bytes(b"RIFF and no more")
    return root


@pytest.fixture
def build(lively):
    """A small model with lively weights; `farend=True` for one that cancels echo."""

    def make(farend=False, **config):
        return lively(EnhancementModel(options={**RESIDUAL_OPTIONS, **(RESIDUAL_FAREND if farend else {})}, **config))

    return make
