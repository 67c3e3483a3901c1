"""Runs of `EnhancementBrain` and of what is derived from it, in a second, without files of audio."""

import torch
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger
from tiny import FAREND, OPTIONS

from deepvqe_hub import EnhancementModel
from deepvqe_hub.losses import SpeechLoss
from deepvqe_hub.training import WarmupCosine


def tiny(seed=0, **options):
    """A fresh model of `OPTIONS` and others."""
    torch.manual_seed(seed)
    return EnhancementModel("DeepVQE", {**OPTIONS, **options})


class Drawn(torch.utils.data.Dataset):
    """Items that are a function of epoch and index."""

    epoch = 0

    def __init__(self, size):
        self.size = size

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.draw(torch.Generator().manual_seed(1000 * self.epoch + index))


class Scenes(Drawn):
    """Noise in noise, with an echo of four frames' delay for echo cancellers."""

    def draw(self, generator):
        clean, noise, farend = torch.randn(3, 2048, generator=generator) * 0.1
        mic = clean + 0.5 * noise + farend.roll(1024)
        return {"noisy": mic, "clean": clean, "farend": farend, "delay": torch.full((9,), 0.064)}


def fit(folder, kind, **hparams):
    """The brain of a run of two epochs, and the losses of its batches."""

    class Brain(kind):
        def signals(self, batch):
            return {name: batch[name] for name in ("noisy", "clean", "farend", "delay")[: 4 if self.farend else 2]}

        def on_fit_batch_end(self, batch, outputs, loss, should_step):
            super().on_fit_batch_end(batch, outputs, loss, should_step)
            losses.append(loss.item())

    torch.manual_seed(0)
    folder.mkdir()
    losses, loader = [], {"batch_size": 4, "num_workers": 0}
    settings = {
        "loss": SpeechLoss(),
        "lr_schedule": WarmupCosine(1e-2, 2),
        "ema_decay": 0.9,
        "delay_weight": 0.5,
        "valid_metrics": ["si_sdr"],
        "sample_rate": 16000,
        "batch_size": 4,
        "segment_seconds": 0.128,
        "chain": 2,
        "train_logger": FileTrainLogger(str(folder / "train_log.txt")),
        **hparams,
    }
    model = EnhancementModel("DeepVQE", {**OPTIONS, **FAREND, "dmax": 6} if kind.farend else OPTIONS)
    brain = Brain(
        {"model": model},
        lambda weights: torch.optim.AdamW(weights, 1e-3),
        settings,
        {"device": "cpu", "noprogressbar": True},
    )
    brain.fit(EpochCounter(2), Scenes(8), Scenes(8), train_loader_kwargs=loader, valid_loader_kwargs=loader)
    return brain, losses
