"""The training loop for joint echo cancellation."""

from __future__ import annotations

from typing import Any

import numpy as np
import speechbrain as sb
import torch
from torch.utils.data import Dataset

from deepvqe_hub.data import EchoRecordings, mix_echo
from deepvqe_hub.data.recordings import splits_of
from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.distributed import world_size
from deepvqe_hub.training.recipe import preload


class EchoBrain(EnhancementBrain):
    """Trains an echo-cancelling model on scenes of `deepvqe_hub.data.EchoSpeech`.

    Beside what `EnhancementBrain` needs, `hparams` must hold `delay_weight`: the weight of a cross entropy
    between the alignment's distribution over delays and the true bulk delay. It is what teaches the alignment quickly;
    the enhancement loss alone finds it, too, but late.

    The network needs the module `align` of `DeepVQE`. One without is trained by an `EnhancementBrain` with
    `farend = True` whose `signals` are those of `deepvqe_hub.data.mix_echo`.
    """

    farend = finds_delay = True

    def make_average(self):
        super().make_average()
        self.delay_weights = []

        # A function, no method: the averaged network is copied for inference, and a method would bring the brain along.
        def keep(module, inputs, outputs):
            self.delay_weights.append(outputs[1])

        for model in (self.model, self.average.module):
            model.network.align.register_forward_hook(keep)

    def auxiliary(self):
        """Probabilities of the delays: (signals, frames, dmax), longest first, for each block that the model took."""
        weights, self.delay_weights = self.delay_weights, []
        return weights

    def signals(self, batch):
        hop = self.model.stft.hop_length
        if "mic" in batch:  # a ready-made mixture, whose delay nobody has written down
            mic = batch["mic"]
            unknown = mic.new_full((len(mic), mic.shape[1] // hop + 1), -1.0)
            return {"noisy": mic, "farend": batch["farend"], "clean": batch["clean"], "delay": unknown}
        noisy, farend, clean, delay = mix_echo(batch, self.hparams.sample_rate, hop)
        return {"noisy": noisy, "farend": farend, "clean": clean, "delay": delay}

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        if stage == sb.Stage.TRAIN and self.hparams.delay_weight and not self.matching:
            loss = loss + self.hparams.delay_weight * self.delay_loss(predictions)
        return loss

    def score(self, predictions, loss):
        super().score(predictions, loss)
        # Share of echo frames whose most probable delay is within one frame of the truth.
        frames, weights = self.delay_in_frames(predictions)
        hits = (weights.argmax(-1) - frames).abs() <= 1
        self.scores.setdefault("delay_hits", []).extend(hits.float().tolist())

    def delay_in_frames(self, predictions) -> tuple[torch.Tensor, torch.Tensor]:
        """True delay in frames where echo is audible, and the alignment's probabilities there, delay 0 first."""
        delay, weights = predictions["delay"], torch.cat(predictions["auxiliary"], dim=1).flip(-1).float()
        length = delay.shape[1]  # frames of a scene; where one follows another its last is the first of the next
        weights = weights.unfold(1, length, length - 1).transpose(2, 3).flatten(0, 1)
        frames = delay * (self.hparams.sample_rate / self.model.stft.hop_length)
        audible = (delay >= 0) & (frames <= weights.shape[-1] - 1)
        return frames[audible], weights[audible]

    def delay_loss(self, predictions) -> torch.Tensor:
        """Cross entropy; a delay between two frames is shared between them."""
        frames, weights = self.delay_in_frames(predictions)
        if not len(frames):
            return weights.sum()  # zero, of no weights at all
        low = frames.floor().long()
        high = (low + 1).clamp(max=weights.shape[-1] - 1)
        log = (weights + 1e-8).log()
        log_low, log_high = log.gather(-1, low[:, None])[:, 0], log.gather(-1, high[:, None])[:, 0]
        return -torch.lerp(log_low, log_high, frames - low).mean()


class WithRecordings(Dataset):
    """Simulated scenes with some batches of ready-made recordings in between.

    An epoch goes on where the one before it ended in a random order of all recordings, so that each has its turn.

    Args:
        simulated, recordings: the two kinds of material.
        batch: consecutive items that are of one kind.
        portion: of all batches, evenly spread, that are recordings.

    Raises:
        ValueError: `portion` is not within 0 and 1.
    """

    def __init__(self, simulated: Dataset, recordings: EchoRecordings, batch: int, portion: float):
        if not 0 <= portion <= 1:
            raise ValueError(f"recordings_portion must lie in 0...1, got {portion}")
        self.simulated, self.recordings, self.batch, self.portion = simulated, recordings, batch, portion
        self.order = np.random.default_rng(recordings.seed).permutation(len(recordings))

    def set_epoch(self, epoch: int) -> None:
        self.simulated.set_epoch(epoch)
        self.recordings.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.simulated)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        number = self.recordings.epoch * (len(self) // self.batch) + index // self.batch  # of all batches of all epochs
        before = int(number * self.portion)  # of them recordings
        if int((number + 1) * self.portion) == before:
            return self.simulated[index]
        turn = before * self.batch + index % self.batch
        return self.recordings[int(self.order[turn % len(self.order)])]


def with_recordings(hparams: dict[str, Any], data: Dataset[Any]) -> Dataset[Any]:
    """Put `recordings_portion` of batches from `recordings_folder`, if there is one, among simulated ones.

    Where the folder's `meta.csv` names splits, as that of the AEC Challenge does, only `train` is taken.

    Raises:
        FileNotFoundError, ValueError: as `EchoRecordings`; ValueError also for a portion that is not within 0 and 1.
    """
    folder = hparams["recordings_folder"]
    if not folder:
        return data
    recordings = EchoRecordings(
        folder,
        split="train" if splits_of(folder) else None,
        segment_seconds=hparams["segment_seconds"],
        seed=hparams["seed"],
        sample_rate=hparams["sample_rate"],
        cache=hparams["cache"],
    )
    preload(hparams, recordings.pools.values())
    return WithRecordings(data, recordings, hparams["batch_size"] * world_size(), hparams["recordings_portion"])
