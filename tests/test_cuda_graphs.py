"""`cuda_graphs` in training, without a GPU: what would be recorded is called. tests/test_cuda.py records."""

import pytest
import torch

pytest.importorskip("speechbrain")

from small_runs import fit

from deepvqe_hub.training import EchoBrain, EnhancementBrain


@pytest.mark.parametrize("kind", [EnhancementBrain, EchoBrain])
def test_what_is_recorded_is_the_same_run(tmp_path, monkeypatch, kind):
    expected = fit(tmp_path / "plain", kind)[1]
    monkeypatch.setattr(kind, "check_recording", lambda self: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda module, examples, **options: module)
    brain, losses = fit(tmp_path / "recorded", kind, cuda_graphs=True)
    assert losses == expected
    assert len(brain.graphed.recordings) == 2  # scenes by themselves, and two in one signal


def test_it_is_for_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="--cuda_graphs: it needs an NVIDIA GPU"):
        fit(tmp_path / "run", EnhancementBrain, cuda_graphs=True)
