"""The training loop for joint echo cancellation."""

from __future__ import annotations

import speechbrain as sb
import torch

from deepvqe_hub.data.echo import mix_echo
from deepvqe_hub.training.brain import EnhancementBrain


class EchoBrain(EnhancementBrain):
    """Trains an echo-cancelling model on scenes of :class:`deepvqe_hub.data.EchoSpeech`.

    Beside what :class:`EnhancementBrain` needs, ``hparams`` must hold ``delay_weight``: the weight of a cross entropy between
    the alignment's distribution over delays and the true bulk delay. It is what teaches the alignment quickly; the
    enhancement loss alone finds it, too, but late.
    """

    def on_fit_start(self):
        super().on_fit_start()
        for model in (self.unwrapped_model(), self.average.module):
            model.network.align.register_forward_hook(self.keep_weights)

    def keep_weights(self, module, inputs, outputs) -> None:
        self.delay_weights.append(outputs[1])

    def compute_forward(self, batch, stage):
        self.delay_weights = []  # one entry for each block of frames that the model takes
        return super().compute_forward(batch, stage)

    def signals(self, batch):
        stft = self.unwrapped_model().stft
        noisy, farend, clean, delay = mix_echo(batch, self.hparams.sample_rate, stft.hop_length)
        return {"noisy": noisy, "farend": farend, "clean": clean, "delay": delay}

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        if stage == sb.Stage.TRAIN and self.hparams.delay_weight:
            loss = loss + self.hparams.delay_weight * self.delay_loss(predictions["delay"])
        if stage != sb.Stage.TRAIN:
            self.score_delay(predictions["delay"])
        return loss

    def delay_in_frames(self, delay: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """True delay in frames where echo is audible, and the alignment's probabilities there, delay 0 first."""
        weights = torch.cat(self.delay_weights, dim=1).flip(-1)[:, : delay.shape[1]].float()
        frames = delay * (self.hparams.sample_rate / self.unwrapped_model().stft.hop_length)
        audible = (delay >= 0) & (frames <= weights.shape[-1] - 1)
        return frames[audible], weights[audible]

    def delay_loss(self, delay: torch.Tensor) -> torch.Tensor:
        """Cross entropy; a delay between two frames is shared between them."""
        frames, weights = self.delay_in_frames(delay)
        if not len(frames):
            return weights.new_zeros(())
        low = frames.floor().long()
        high = (low + 1).clamp(max=weights.shape[-1] - 1)
        log = (weights + 1e-8).log()
        log_low, log_high = log.gather(-1, low[:, None])[:, 0], log.gather(-1, high[:, None])[:, 0]
        return -torch.lerp(log_low, log_high, frames - low).mean()

    def score_delay(self, delay: torch.Tensor) -> None:
        """Share of echo frames whose most probable delay is within one frame of the truth."""
        frames, weights = self.delay_in_frames(delay)
        hits = (weights.argmax(-1) - frames).abs() <= 1
        self.scores.setdefault("delay_hits", []).extend(hits.float().tolist())
