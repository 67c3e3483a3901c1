"""EnhancementModel among PyTorch's own tools: other precisions, training mode, traced, compiled, replicated."""

import copy

import pytest
import torch

from deepvqe_hub import EnhancementModel, enhance
from deepvqe_hub.enhancement import BLOCK_SECONDS
from deepvqe_hub.models import DeepVQE

RATE = 16000


def noise(*shape):
    return torch.rand(shape) * 2 - 1


def test_double_precision_is_computed_in_single():
    """What soundfile reads by default."""
    model = EnhancementModel.from_config("deepvqe-s").eval()
    noisy = torch.randn(2000, dtype=torch.float64) * 0.1
    with torch.no_grad():
        enhanced = model(noisy)
        assert enhanced.dtype == torch.float64 and torch.equal(enhanced.float(), model(noisy.float()))
    assert model.stream()(noisy).dtype == torch.float64


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_and_signals_of_any_precision(build, dtype):
    signals = noise(2, 4000), noise(2, 4000)
    reference = build(farend=True)
    wanted = reference(*signals)
    rounded = [wave.to(dtype) for wave in signals]
    assert torch.equal(reference(*rounded), reference(*(wave.float() for wave in rounded)).to(dtype))
    model = copy.deepcopy(reference).to(dtype)
    enhanced = model(*signals)
    assert enhanced.dtype == torch.float32
    torch.testing.assert_close(enhanced, wanted, rtol=0, atol=0.05 * float(wanted.abs().max()))
    stream = model.stream(2)
    parts = [stream(*(wave[:, :1500] for wave in signals)), stream(*(wave[:, 1500:] for wave in signals))]
    torch.testing.assert_close(
        torch.cat([*parts, stream.flush().float()], 1), enhanced, rtol=0, atol=0.05 * float(wanted.abs().max())
    )
    assert model.stream().flush().shape == (0,)
    model.delay(*signals)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0])
def test_half_precision_from_silence_to_full_scale(build, dtype, level):
    """Squares of what is so quiet, or of bins so loud, do not fit into float16."""
    reference = build(farend=True)
    model, wave = copy.deepcopy(reference).to(dtype), torch.full((1, 4000), level)
    wanted, enhanced = reference(wave), model(wave)
    torch.testing.assert_close(enhanced, wanted, rtol=0, atol=0.05 * max(level, float(wanted.abs().max())))
    stream = model.stream()
    assert stream(wave).isfinite().all() and stream(noise(1, 2000)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_normalised_spectra_in_silence(dtype):
    options = {"blocks": 1, "channels": 8, "hidden": 8, "heads": 2, "normalize": True}
    model = EnhancementModel("TFGridNet", options).eval().to(dtype)
    with torch.inference_mode():
        assert model(torch.zeros(3000)).isfinite().all()


def test_samples_too_large_for_single_precision_are_refused(build):
    model, loud = build(), torch.full((1000,), 1e300, dtype=torch.float64)
    for wave in (loud, -loud):
        with pytest.raises(ValueError, match=r"noisy contains .* beyond 1e\+30"):
            model(wave)
        with pytest.raises(ValueError, match=r"audio contains .* beyond 1e\+30"):
            enhance(model, wave, RATE)
    with torch.no_grad():
        assert model(torch.full((1000,), 1e29)).isfinite().all()


def test_a_float16_model_refuses_what_its_spectra_cannot_hold(build):
    model = build().half()
    stream, wave = model.stream(), noise(4000)
    for call in (model, stream):
        with pytest.raises(ValueError, match="beyond 100;"):
            call(1000 * wave)
    with torch.no_grad():
        assert model(99 * wave).isfinite().all() and stream(99 * wave).isfinite().all()


def test_outputs_of_a_stream_are_ordinary_tensors(build):
    out = build().stream()(noise(3000))
    out *= 0.5
    torch.nn.Conv1d(1, 2, 3)(out[None]).sum().backward()


def test_a_stream_keeps_its_weights_when_the_model_changes(build):
    model, wave = build(), noise(3000)
    wanted = model.stream()(wave)
    stream = model.stream()
    model.double()
    assert torch.allclose(stream(wave), wanted, atol=1e-6)


def test_replicas_of_data_parallel(build):
    """They have tensors in the place of parameters; made here as `torch.nn.parallel.replicate` does."""
    model = build()
    wave = noise(1, 3000)
    with torch.inference_mode():
        wanted = model(wave)
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, replica in copies.items():
        for name, child in module._modules.items():
            if child is not None:
                setattr(replica, name, copies[child])
        for name, value in module._parameters.items():
            if value is not None:
                setattr(replica, name, value.detach())
    assert not list(copies[model].parameters())
    with torch.inference_mode():
        assert torch.allclose(copies[model](wave), wanted, atol=1e-6)


@torch.inference_mode()
def test_a_traced_model_is_the_model(build, error):
    model, wave = build(), noise(2 * BLOCK_SECONDS * RATE)
    assert error(torch.jit.trace(model, wave)(wave.flip(0)), model(wave.flip(0))) < 1e-5


def test_training_mode_takes_a_signal_whole_with_and_without_gradients(build):
    model, wave = build().train(), noise(2, 3 * BLOCK_SECONDS * RATE)
    twin = copy.deepcopy(model)
    wanted = model(wave).detach()
    with torch.no_grad():
        assert torch.allclose(twin(wave), wanted, atol=1e-6)
    assert twin.network.enblock1.bn.num_batches_tracked == 1
    torch.testing.assert_close(twin.network.enblock1.bn.running_var, model.network.enblock1.bn.running_var)


def test_one_norm_in_training_mode_takes_a_signal_whole(build, error):
    model, wave = build(), noise(2, 3 * BLOCK_SECONDS * RATE)
    model.network.enblock1.bn.train()
    wanted = model(wave).detach()
    with torch.no_grad():
        assert error(model(wave), wanted) < 1e-6


def test_a_compiled_model_copies_no_weights(build, error, monkeypatch):
    model, waves = build(), [noise(seconds * RATE) for seconds in (1, 5, 6)]
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        wanted = [model(wave) for wave in waves]
        monkeypatch.setattr(DeepVQE, "for_inference", None)
        counts = []
        for wave, expected in zip(waves, wanted):
            assert error(compiled(wave), expected) < 1e-5
            counts.append(len(graphs))
    assert counts[0] > 0 and counts[1] == counts[2]  # for the second length in graphs of any length


def test_weights_of_a_functional_call(build, error):
    model, wave = build(), noise(2 * BLOCK_SECONDS * RATE)
    weights = {name: 1.1 * weight for name, weight in model.named_parameters()}
    wanted = torch.func.functional_call(model, weights, (wave,)).detach()
    with torch.no_grad():
        assert error(torch.func.functional_call(model, weights, (wave,)), wanted) < 1e-5


def test_parametrized_weights_stream(build, error):
    model, wave = build(), noise(2 * BLOCK_SECONDS * RATE)
    torch.nn.utils.parametrizations.weight_norm(model.network.enblock1.conv)
    model.network.enblock1.conv.parametrizations.weight.original0.data *= 1.5
    wanted = model(wave).detach()
    with torch.no_grad():
        assert error(model(wave), wanted) < 1e-5
    stream = model.stream()
    assert error(torch.cat([stream(wave), stream.flush()]), wanted) < 1e-5
    assert error(model(wave).detach(), wanted) == 0 and model.network.enblock1.conv.parametrizations
