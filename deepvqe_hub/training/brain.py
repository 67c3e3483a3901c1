"""The training loop: SpeechBrain's `Brain` for waveform-to-waveform enhancement."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import ClassVar

import speechbrain as sb
import torch
import yaml
from speechbrain.utils.autocast import AMPConfig
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import default_collate

from deepvqe_hub.data import mix
from deepvqe_hub.metrics import evaluate_tensors
from deepvqe_hub.training.bottleneck import SceneMatching, only_bottleneck_learns
from deepvqe_hub.training.cuda_graphs import GraphedLoss
from deepvqe_hub.training.distributed import SyncBatchNorm, gather, share, world_size
from deepvqe_hub.training.schedule import Clock

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class EnhancementBrain(sb.Brain):
    """Trains `modules.model`, a `deepvqe_hub.EnhancementModel`, on material mixed as it is needed.

    Validation, test and the published model use an exponential moving average of the weights.

    `hparams` must hold: `loss(estimate, target)`; `lr_schedule(step, total_steps)`; `ema_decay`;
    `valid_metrics`, names from `deepvqe_hub.metrics.METRICS`; `sample_rate` in Hz; `batch_size` (of a process)
    and `segment_seconds`; `train_logger`; for `evaluate` also `test_metrics` and `epoch_counter`.
    It may hold these, whose defaults are in `DEFAULTS`:

    * `init_from`: the trained weights that the run began with, for a warning where it goes on from a checkpoint instead
    * `chain`: how many items follow one another in one signal in every other batch; 1 is none
    * `minutes`: after which the run ends, with a learning rate that falls by the `Clock`; 0 is no limit
    * `freeze_norms`: batch norms use their running statistics, which then stay as they are, while everything else
      learns
    * `bottleneck_only`: every batch is chained, also in validation, and nothing but the bottleneck learns, by
      `SceneMatching`
    * `cuda_graphs`: a GPU gets the work of the loss and its gradients at once, by `GraphedLoss`
    * `tensorboard`: a `SummaryWriter` on the first process
    * `cache`: whether the clips are in memory, where the processes that read audio are to share them

    The training set must have `set_epoch` and draw its items at random by itself, so that no sampler shuffles.

    Raises:
        ValueError: `cuda_graphs` without an NVIDIA GPU, or with what does not go together with it.
    """

    DEFAULTS: ClassVar[dict] = {
        "init_from": "",
        "chain": 1,
        "minutes": 0,
        "freeze_norms": False,
        "bottleneck_only": False,
        "cuda_graphs": False,
        "tensorboard": None,
        "cache": False,
    }
    """Settings that `hparams` need not hold."""
    farend: bool = False
    """Whether the model must take a far end."""
    finds_delay: bool = False
    """Whether the model must align the far end, too."""
    hours: float = 0.0
    """Audio seen so far by all processes, whatever the batches."""
    start: str | None = None
    """What weights the run began with, if not with random ones."""
    base_model: str | None = None
    """The repository of the Hub that they are of, if they are of one."""
    test_stats: dict[str, float] | None = None
    """Loss and scores of the last `evaluate`."""
    graphed: GraphedLoss | None = None
    """What computes the loss in training, with `cuda_graphs`."""
    matching: SceneMatching | None = None
    """What takes the place of the loss where only the bottleneck learns."""

    def __init__(self, modules=None, opt_class=None, hparams=None, run_opts=None, checkpointer=None):
        super().__init__(modules, opt_class, self.DEFAULTS | (hparams or {}), run_opts, checkpointer)
        self.model = self.modules.model  # what is wrapped later, for compilation and several processes, is inside this
        self.clock = Clock(self.hparams.minutes)
        if self.hparams.cuda_graphs:
            self.check_recording()
        if isinstance(self.hparams.loss, torch.nn.Module):  # SpeechBrain moves `modules` alone
            self.hparams.loss.to(self.device)

    def check_recording(self) -> None:
        """Raise ValueError for a run that `cuda_graphs` is not made for."""
        for fault, remedy in (
            (self.device_type != "cuda", "it needs an NVIDIA GPU; leave it out, or give --device cuda"),
            (world_size() > 1, "it takes one process"),
            (self.compile, "torch.compile has its own, with --compile_mode reduce-overhead; give one of the two"),
            (self.hparams.bottleneck_only, "not with --bottleneck_only; leave one of the two out"),
        ):
            if fault:
                raise ValueError(f"--cuda_graphs: {remedy}")

    def fit(self, epoch_counter, train_set, *args, **kwargs):
        self.train_data, self.counter = train_set, epoch_counter
        super().fit(epoch_counter, train_set, *args, **kwargs)

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **options):
        """A loader that goes through this process's share in order and, for training, saves its position."""
        together = options["batch_size"] * self.grad_accumulation_factor
        train = stage == sb.Stage.TRAIN
        sampler = share(len(dataset), together, self.hparams.chain) if train else share(len(dataset))
        if train:
            self.steps_per_epoch = len(sampler) // together
            if not self.steps_per_epoch:
                raise ValueError(
                    f"{len(dataset)} items per epoch are fewer than an optimiser step takes: batch_size "
                    f"{options['batch_size']} x grad_accumulation_factor {self.grad_accumulation_factor} x "
                    f"{world_size()} processes; raise items_per_epoch"
                )
        if not train and not len(sampler):
            name = f"{stage.name.lower()}_items"
            raise ValueError(f"{len(dataset)} {name} do not give each of {world_size()} processes one; raise them")
        if self.hparams.cache and options.get("num_workers") and sys.platform == "linux":
            # Forked processes share the clips. Python 3.14 would start them anew, each with a copy, as macOS does.
            options.setdefault("multiprocessing_context", "fork")
        options = {"pin_memory": self.device_type == "cuda", **options, "sampler": sampler}
        loader = sb.dataio.dataloader.make_dataloader(dataset, **options)
        if train and self.checkpointer is not None:
            self.checkpointer.add_recoverable(f"{ckpt_prefix}{stage.name}", loader)
        return loader

    def on_fit_start(self):
        self.make_average()
        if self.hparams.bottleneck_only:
            self.matching = SceneMatching(self.model.network)
            only_bottleneck_learns(self.model.network)
            if self.checkpointer is not None:
                self.checkpointer.add_recoverable("matching", self.matching)
        if self.hparams.cuda_graphs:
            dtype = AMPConfig.from_name(self.precision).dtype
            self.graphed = GraphedLoss(self.model, self.hparams.loss, dtype, self.auxiliary)
        self.clock.start()
        super().on_fit_start()
        if self.clock.over:  # the run had ended
            self.counter.limit = self.counter.current

    def auxiliary(self) -> list[torch.Tensor]:
        """Hand over what the model has given beside its output since the last call, for `compute_objectives`."""
        return []

    def on_evaluate_start(self, max_key=None, min_key=None):
        if self.test_only:  # nothing was fitted
            self.make_average()
        super().on_evaluate_start(max_key, min_key)

    def make_average(self):
        """Put a moving average beside the model, before either is loaded from a checkpoint."""
        # In evaluation mode for good: it is no part of self.modules, whose mode Brain sets.
        self.average = AveragedModel(
            self.model, multi_avg_fn=MovingAverage(self.hparams.ema_decay), use_buffers=True
        ).eval()
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("average", self.average)

    def _wrap_distributed(self):
        if not (self.distributed_launch and self.device_type == "cpu"):
            return super()._wrap_distributed()
        for name, module in self.modules.items():  # SpeechBrain takes a batch norm that needs a GPU
            self.modules[name] = DistributedDataParallel(SyncBatchNorm.convert(module))

    def _should_save_intra_epoch_ckpt(self, *args):
        # Gradients that wait for the rest of their step are in no checkpoint.
        return self.step % self.grad_accumulation_factor == 0 and super()._should_save_intra_epoch_ckpt(*args)

    def signals(self, batch) -> dict[str, torch.Tensor]:
        """Mix a batch on the training device: `noisy`, `clean` and, for echo cancellers, `farend`."""
        noisy, clean = mix(batch, self.hparams.sample_rate)
        return {"noisy": noisy, "clean": clean}

    def example(self, data, size: int = 24) -> dict[str, torch.Tensor]:
        """The first `size` items of `data`, mixed."""
        batch = default_collate([data[i] for i in range(min(size, len(data)))])
        return self.signals({name: value.to(self.device) for name, value in batch.items()})

    def compute_forward(self, batch, stage):
        """The signals of a batch, "auxiliary", and "enhanced" or, where `matching` or `graphed` give it, the "loss"."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(self.device_type, enabled=False):
            signals = self.signals(batch)
        train, clean = stage == sb.Stage.TRAIN, signals["clean"]
        self.auxiliary()  # of calls that were none of this batch, such as a subclass's between epochs
        scenes = self.scenes_in_a_signal(stage, len(clean))
        waves = [signals[name].unflatten(0, (-1, scenes)).flatten(1) for name in ("noisy", "farend") if name in signals]
        if train and self.graphed:
            loss, *auxiliary = self.graphed(clean, *waves)
            return {**signals, "loss": loss, "auxiliary": auxiliary}
        if train and self.matching:
            output = {"loss": self.matching(self.model, *waves, scenes=scenes)}
        else:
            model = self.modules.model if train else self.average.module
            output = {"enhanced": model(*waves).reshape_as(clean)}
        return {**signals, **output, "auxiliary": self.auxiliary()}

    def scenes_in_a_signal(self, stage, items: int) -> int:
        """How many items follow one another in one signal; so a network learns to leave behind what it has heard."""
        chained = stage != sb.Stage.TEST if self.matching else stage == sb.Stage.TRAIN and self.step % 2
        return self.hparams.chain if chained and items % self.hparams.chain == 0 else 1  # a last batch may be smaller

    def compute_objectives(self, predictions, batch, stage):
        if "loss" in predictions:
            return predictions["loss"]
        with torch.autocast(self.device_type, enabled=False):
            loss = self.hparams.loss(predictions["enhanced"].float(), predictions["clean"])
        if stage != sb.Stage.TRAIN:
            self.score(predictions, float(loss))
        return loss

    def score(self, predictions, loss: float) -> None:
        """Measure a batch of validation or test with the same code as `deepvqe evaluate`."""
        enhanced = predictions["enhanced"].float()
        inputs = {name: predictions[name] for name in ("noisy", "farend") if name in predictions}
        self.scores.setdefault("loss", []).extend([loss] * len(enhanced))
        scores = evaluate_tensors(
            enhanced, predictions["clean"], self.hparams.sample_rate, metrics=self.metrics, **inputs
        )
        for name, values in scores.items():
            self.scores.setdefault(name, []).extend(float(value) for value in values)

    def learning_rate(self, batches: int = 0) -> float:
        """The rate after so many batches of this epoch; epochs count, as batches may change from one to the next."""
        step = self.steps_per_epoch * self.epochs_done + batches // self.grad_accumulation_factor
        return self.hparams.lr_schedule(step, self.clock.total_steps(step, self.steps_per_epoch * self.counter.limit))

    def on_fit_batch_start(self, batch, should_step):
        # Once an epoch Brain puts everything into training mode.
        if self.hparams.freeze_norms or self.matching:
            for module in self.modules.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step - 1)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        self.hours += self.batch_items * self.hparams.segment_seconds / 3600
        if should_step:
            self.average.update_parameters(self.model)
            if self.clock.over:
                self.optimizer_step_limit = self.optimizer_step  # ends the epoch, and the run with it
        tensorboard = self.hparams.tensorboard
        if tensorboard and should_step and self.optimizer_step % 20 == 0:
            tensorboard.add_scalar("loss/step", float(loss), self.optimizer_step)

    def check_gradients(self):
        # All at once, as the answer is waited for on a GPU.
        grads = [param.grad for param in self.modules.parameters() if param.grad is not None]
        if grads and not torch.stack(torch._foreach_norm(grads)).isfinite().all():
            super().check_gradients()

    @property
    def batch_items(self) -> int:
        """Items in a batch of all processes."""
        return world_size() * self.hparams.batch_size

    @mark_as_saver
    def _save(self, path):
        super()._save(path)
        with Path(path).open("a", encoding="utf-8") as file:  # beside SpeechBrain's own numbers
            numbers = {"hours": self.hours, "batch_items": self.batch_items, "seconds": self.clock.seconds}
            origin = {"start": self.start, "base_model": self.base_model, "license": self.model.license}
            file.write(yaml.dump(numbers | origin))

    @mark_as_loader
    def _recover(self, path, end_of_epoch):
        super()._recover(path, end_of_epoch)
        saved = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        self.hours = saved["hours"]
        self.start, self.base_model, self.model.license = saved["start"], saved["base_model"], saved["license"]
        self.clock.start(saved["seconds"])
        if self.hparams.init_from and self.hparams.init_from != self.start:
            logger.warning("init_from %s is not used: the run goes on from a checkpoint", self.hparams.init_from)
        before = saved["batch_items"]
        if before != self.batch_items and not end_of_epoch:  # the place in the epoch is kept in batches
            raise ValueError(
                f"the run stopped within an epoch with {before} items in the batches of all processes, and now there "
                f"are {self.batch_items}: finish the epoch as it began, then change batch_size or the processes"
            )

    def on_stage_start(self, stage, epoch=None):
        self.scores = {}
        if stage == sb.Stage.TRAIN:
            self.epochs_done = epoch - 1
            self.train_data.set_epoch(epoch)
        else:
            self.metrics = self.hparams.valid_metrics if stage == sb.Stage.VALID else self.hparams.test_metrics

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.TRAIN:
            losses = gather({"train": [float(stage_loss)]})["train"]
            self.train_loss = sum(losses) / len(losses)
            return
        scores = gather(self.scores)
        # NaN stands for what a measure cannot score, such as a silent target.
        stats = {name: float(torch.tensor(values).nanmean()) for name, values in scores.items()}
        # In the loss it stands for a broken model, which must not be taken for the best.
        stats["loss"] = float(torch.tensor(scores["loss"]).nan_to_num(torch.inf).mean())
        if stage == sb.Stage.TEST:
            loaded = {"Epoch loaded": self.hparams.epoch_counter.current}
            self.hparams.train_logger.log_stats(loaded, test_stats=stats)
            self.test_stats = stats
            return
        self.epochs_done = epoch
        meta = {"epoch": epoch, "lr": self.learning_rate(), "hours": self.hours, "steps": self.optimizer_step}
        self.hparams.train_logger.log_stats(meta, train_stats={"loss": self.train_loss}, valid_stats=stats)
        tensorboard = self.hparams.tensorboard
        if tensorboard:
            scalars = {"lr": meta["lr"], "loss/train": self.train_loss}
            scalars |= {f"{name}/valid": value for name, value in stats.items()}
            for name, value in scalars.items():
                tensorboard.add_scalar(name, value, self.optimizer_step)
            tensorboard.flush()
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(meta={**stats, **meta}, min_keys=["loss"])


class MovingAverage:
    """Update of an `AveragedModel`: a plain mean over the first steps, then exponential with `decay`.

    So the average does not remember the random start.
    """

    def __init__(self, decay: float):
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averages: list[torch.Tensor], values: list[torch.Tensor], count: torch.Tensor) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, max(1 - self.decay, 1 / (int(count) + 1)))
        else:  # counters
            torch._foreach_copy_(averages, values)
