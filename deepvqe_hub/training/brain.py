"""The training loop: SpeechBrain's ``Brain`` for waveform-to-waveform enhancement."""

from __future__ import annotations

import speechbrain as sb
import torch
from torch.optim.swa_utils import AveragedModel

from deepvqe_hub.data import mix
from deepvqe_hub.metrics import evaluate_tensors


class EnhancementBrain(sb.Brain):
    """Trains ``modules.model``, an :class:`~deepvqe_hub.EnhancementModel`, on material mixed as it is needed.

    Validation and the published model use an exponential moving average of the weights.

    ``hparams`` must hold: ``loss(estimate, target)``; ``lr_schedule(step)``; ``ema_decay``; ``valid_metrics``, names from
    :data:`deepvqe_hub.metrics.METRICS`; ``sample_rate``; ``batch_seconds``, audio in a batch; ``train_logger``; and
    optionally ``tensorboard``. The training set must have ``set_epoch``.
    """

    def fit(self, epoch_counter, train_set, *args, **kwargs):
        self.train_data = train_set
        super().fit(epoch_counter, train_set, *args, **kwargs)

    def on_fit_start(self):
        decay = self.hparams.ema_decay
        self.average = AveragedModel(
            self.unwrapped_model(),
            # The decay grows over the first steps, so that the average does not remember the random start.
            avg_fn=lambda average, new, count: average + (new - average) * max(1 - decay, 1 / (count + 1)),
            use_buffers=True,
        )
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("average", self.average)
        super().on_fit_start()

    def unwrapped_model(self) -> torch.nn.Module:
        model = self.modules.model
        return getattr(model, "module", model)  # DistributedDataParallel keeps the model inside

    def signals(self, batch) -> dict[str, torch.Tensor]:
        """Mix a batch on the training device: ``noisy``, ``clean`` and, for echo cancellers, ``farend``."""
        noisy, clean = mix(batch, self.hparams.sample_rate)
        return {"noisy": noisy, "clean": clean}

    def compute_forward(self, batch, stage):
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(torch.device(self.device).type, enabled=False):
            signals = self.signals(batch)
        model = self.modules.model if stage == sb.Stage.TRAIN else self.average.module
        enhanced = model(signals["noisy"], signals.get("farend"))
        return {**signals, "enhanced": enhanced}

    def compute_objectives(self, predictions, batch, stage):
        with torch.autocast(torch.device(self.device).type, enabled=False):
            loss = self.hparams.loss(predictions["enhanced"].float(), predictions["clean"])
        if stage != sb.Stage.TRAIN:
            self.score(predictions)
        return loss

    def score(self, predictions) -> None:
        """Measure a validation batch with the same code as ``deepvqe evaluate``."""
        scores = evaluate_tensors(
            predictions["enhanced"].float(),
            predictions["clean"],
            self.hparams.sample_rate,
            metrics=self.hparams.valid_metrics,
        )
        for name, values in scores.items():
            self.scores.setdefault(name, []).extend(float(value) for value in values)

    def on_fit_batch_start(self, batch, should_step):
        for group in self.optimizer.param_groups:
            group["lr"] = self.hparams.lr_schedule(self.optimizer_step)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            self.average.update_parameters(self.unwrapped_model())
        tensorboard = getattr(self.hparams, "tensorboard", None)
        if tensorboard is not None and should_step and self.optimizer_step % 20 == 0:
            tensorboard.writer.add_scalar("train/loss", float(loss), self.optimizer_step)

    def hours_seen(self) -> float:
        """Audio seen so far by all processes."""
        processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        seconds = self.optimizer_step * self.grad_accumulation_factor * self.hparams.batch_seconds * processes
        return seconds / 3600

    def on_stage_start(self, stage, epoch=None):
        self.scores = {}
        if stage == sb.Stage.TRAIN:
            self.train_data.set_epoch(epoch)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.TRAIN:
            self.train_loss = float(stage_loss)
            return
        # NaN stands for what a measure cannot score, such as a silent target.
        means = {name: float(torch.tensor(values).nanmean()) for name, values in self.scores.items()}
        stats = {"loss": float(stage_loss), **means}
        if stage == sb.Stage.TEST:
            self.hparams.train_logger.log_stats({"epoch": "test"}, test_stats=stats)
            return
        meta = {"epoch": epoch, "lr": self.hparams.lr_schedule(self.optimizer_step), "hours": self.hours_seen()}
        loggers = [self.hparams.train_logger, getattr(self.hparams, "tensorboard", None)]
        for logger in filter(None, loggers):
            logger.log_stats(meta, train_stats={"loss": self.train_loss}, valid_stats=stats)
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(meta={**stats, **meta}, min_keys=["loss"])
