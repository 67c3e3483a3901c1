"""What runs on a CPU runs on a GPU; skipped without one."""

import copy
from pathlib import Path

import pytest
import soundfile
import torch
from torch.testing import assert_close
from torch.utils.data import default_collate

import deepvqe_hub
from deepvqe_hub.data import AudioPool, NoisySpeech, mix
from deepvqe_hub.losses import SpeechLoss
from deepvqe_hub.optim import Muon
from deepvqe_hub.training.cuda_graphs import GraphedLoss

NOISY = Path(__file__).parents[1] / "examples" / "noisy.wav"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def exact():
    """Convolutions in float32, as PyTorch does not have them, and products, as SpeechBrain does not once imported."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        yield
        torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module", params=["deepvqe-s", "deepvqe-aec-s"])
def model(request):
    return deepvqe_hub.load(request.param)


def waves(model) -> list[torch.Tensor]:
    """A noisy voice, twice, and a far end."""
    voice = torch.from_numpy(soundfile.read(NOISY, dtype="float32")[0][:48000])
    farend = torch.randn(2, len(voice), generator=torch.Generator().manual_seed(0)) * 0.05
    return [torch.stack([voice, voice.flip(0)]), farend][: 1 + model.farend]


@torch.inference_mode()
def test_whole_signals_as_on_the_cpu(model):
    signals = waves(model)
    enhanced = copy.deepcopy(model).cuda()(*(wave.cuda() for wave in signals))
    assert enhanced.device.type == "cuda"
    assert_close(enhanced.cpu(), model(*signals), atol=2e-5, rtol=0)


@torch.inference_mode()
def test_stream_equals_offline(model):
    ours, signals = copy.deepcopy(model).cuda(), [wave.cuda() for wave in waves(model)]
    stream, parts = ours.stream(batch_size=2), []
    for start in range(0, signals[0].shape[1], 1000):
        parts.append(stream(*(wave[:, start : start + 1000] for wave in signals)))
    assert_close(torch.cat([*parts, stream.flush()], 1), ours(*signals), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype, error_db", [(torch.bfloat16, -20), (torch.float16, -40)], ids=str)
@torch.inference_mode()
def test_half_precision(model, dtype, error_db):
    signals = waves(model)
    enhanced = copy.deepcopy(model).to("cuda", dtype)(*(wave.cuda() for wave in signals)).cpu()
    expected = model(*signals)
    assert 20 * torch.log10((enhanced - expected).norm() / expected.norm()) < error_db


def test_loads_to_a_gpu():
    assert deepvqe_hub.load("deepvqe-s", device="cuda").network.deblock1.deconv.conv.weight.is_cuda


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_trains(dtype, layout):
    torch.manual_seed(0)
    model = deepvqe_hub.load("deepvqe-s").cuda().train().to(memory_format=layout)
    loss_of, optimizer = SpeechLoss(stoi_weight=1.0).cuda(), Muon(model.parameters(), lr=1e-3)
    # Small, since a scaler that begins at its default leaves out the first dozen of steps to find a scale.
    scaler = torch.amp.GradScaler("cuda", init_scale=64.0, enabled=dtype == torch.float16)
    noisy, clean, losses = *(torch.randn(2, 4, 32000, device="cuda") * 0.1), []
    for _ in range(8):
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            enhanced = model(noisy)
        losses.append(loss_of(enhanced.float(), clean))
        scaler.scale(losses[-1]).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_mixes_as_on_the_cpu(tmp_path):
    pools = []
    for number, kind in enumerate(("clean", "noise")):
        wave = torch.randn(32000, generator=torch.Generator().manual_seed(number)) * 0.1
        soundfile.write(tmp_path / f"{kind}.wav", wave.numpy(), 16000)
        pools.append(AudioPool([tmp_path / f"{kind}.wav"]))
    data = NoisySpeech(*pools, segment_seconds=1.0, size=4)
    batch = default_collate([data[index] for index in range(4)])
    on_gpu = mix({name: value.cuda() for name, value in batch.items()})
    for ours, theirs in zip(on_gpu, mix(batch)):
        assert_close(ours.cpu(), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("chain", [1, 2])
def test_recorded_loss_has_the_same_gradients(model, chain):
    ours, signals = copy.deepcopy(model).cuda(), [wave.cuda() for wave in waves(model)]
    loss_of, clean, left = SpeechLoss(stoi_weight=5.0).cuda(), signals[0] * 0.5, []
    if model.farend:
        ours.network.align.register_forward_hook(lambda module, inputs, outputs: left.append(outputs[1]))
    recorded = GraphedLoss(ours, loss_of, torch.float32, lambda: [left.pop()] if left else [])
    for gain in (1.0, 0.3):  # the second is a replay
        batch = [gain * wave.unflatten(0, (-1, chain)).flatten(1) for wave in (clean, *signals)]
        loss, *beside = recorded(clean * gain, *batch[1:])
        assert len(beside) == model.farend
        total = loss + sum(weights.square().mean() for weights in beside)
        expected = loss_of(ours(*batch[1:]).reshape_as(clean), clean * gain)
        expected = expected + sum(weights.square().mean() for weights in left[-1:])
        assert_close(total, expected)
        grads = [torch.autograd.grad(value, list(ours.parameters()), allow_unused=True) for value in (total, expected)]
        for ours_grad, theirs in zip(*grads):
            if theirs is not None:
                assert_close(ours_grad, theirs, atol=1e-4 * float(theirs.abs().max()) + 1e-6, rtol=1e-3)
