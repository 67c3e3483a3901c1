"""What befalls live streams: failures half-way through a call."""

import numpy as np
import pytest
import torch
from tiny import FAREND, OPTIONS

from deepvqe_hub import EnhancementModel


@pytest.fixture
def build(lively):
    """A small model with lively weights; `farend=True` for one that cancels echo."""

    def make(farend=False, **config):
        return lively(EnhancementModel(options=OPTIONS | (FAREND if farend else {}), **config))

    return make


@pytest.fixture
def streams(build, tmp_path):
    """Makes a model, a stream of it, what computes in it (an object and a method's name), and how it takes arrays."""

    def make(kind):
        model = build(farend=True)
        if kind.startswith("torch"):
            stream = model.stream(int(kind[-1]))
            return model, stream, (stream.network, "forward"), torch.from_numpy
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        from deepvqe_hub.onnx import OnnxModel, export

        stream = OnnxModel(export(model, tmp_path / "m.onnx")).stream(int(kind[-1]))
        last = stream if kind == "onnx 1" else stream._streams[-1]  # the others are ahead when it fails
        return model, stream, (last._step.session, "run_with_iobinding"), lambda wave: wave

    return make


def noise(*shape):
    return (torch.rand(shape) - 0.5).numpy()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("kind", ["torch 1", "torch 2", "onnx 1", "onnx 2"])
def test_after_a_failure_half_way_a_stream_wants_a_reset(streams, kind, error, monkeypatch):
    model, stream, (owner, name), given = streams(kind)
    rows = stream.batch_size
    wave, far = noise(rows, 5000), noise(rows, 5000)

    def part(start, stop):
        return stream(given(wave[:, start:stop]), given(far[:, start:stop]))

    def fail(*_, **__):
        raise error

    with torch.inference_mode():
        whole = model(torch.from_numpy(wave), torch.from_numpy(far)).numpy()
    part(0, 3000)
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(owner, name, fail)
        part(3000, 4000)
    for call in (lambda: part(3000, 4000), lambda: part(4000, 5000), stream.flush, stream.flush):
        with pytest.raises(RuntimeError, match=r"failed half-way.*reset\(\)"):
            call()
    stream.reset()
    parts = [part(0, 700), part(700, 5000), stream.flush()]
    joined = np.concatenate([np.asarray(out).reshape(rows, -1) for out in parts], 1)
    np.testing.assert_allclose(joined, whole, atol=1e-5)


def test_a_flush_that_fails_ends_nothing(build):
    stream = build().stream()
    stream(torch.zeros(1000))
    hook = stream.network.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stream.flush()
    hook.remove()
    with pytest.raises(RuntimeError, match="half-way"):
        stream.flush()
    stream.reset()
    assert len(stream(torch.zeros(1000))) + len(stream.flush()) == 1000
