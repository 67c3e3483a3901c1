"""Settings that cannot work, found before the data are prepared, which may take hours."""

from __future__ import annotations

from pathlib import Path

import torch
from speechbrain.utils.checkpoints import Checkpoint

from deepvqe_hub.data import NoisySpeech
from deepvqe_hub.data.recordings import splits_of
from deepvqe_hub.data.settings import check_settings
from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.metrics import select_metrics
from deepvqe_hub.metrics.registry import check_packages
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.distributed import world_size

COUNTS = ("number_of_epochs", "items_per_epoch", "valid_items", "batch_size", "grad_accumulation_factor", "chain")


def check(hparams: dict, brain_class: type[EnhancementBrain], data_class: type[NoisySpeech]) -> None:
    """Raise ValueError, or ImportError for a package that is missing, for settings with which no run can begin."""
    check_numbers(hparams)
    check_model(hparams, brain_class)
    for name in ("valid_metrics", "test_metrics"):
        metrics = select_metrics(hparams[name])
        check_packages(metrics)
        if "erle" in metrics:
            raise ValueError(f"--{name}: ERLE is of scenes where only the far end talks; choose other measures")
    recordings = hparams.get("recordings_folder")
    if recordings and not Path(recordings).is_dir():
        raise ValueError(f"--recordings_folder {recordings}: no such folder")
    if recordings:
        splits_of(recordings)  # reads its table
    try:
        check_settings(data_class, hparams["mixing"])
    except ValueError as error:
        raise ValueError(f"--mixing: {error}") from error
    wave = torch.arange(segment_samples(hparams)).sin()[None] * 0.1
    try:  # no random numbers, so that the run draws what it would draw without
        hparams["loss"](wave, wave * 0.9)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"--segment_seconds {hparams['segment_seconds']:g}: the loss cannot be computed for that length: {error}"
        ) from error


def segment_samples(hparams: dict) -> int:
    """Samples of an item."""
    return round(hparams["segment_seconds"] * hparams["sample_rate"])


def check_numbers(hparams: dict) -> None:
    """Raise ValueError for numbers out of range, and such as do not fit together."""
    for name in COUNTS:
        count = hparams[name]
        if not (isinstance(count, int) and count >= 1):
            raise ValueError(f"--{name} must be a whole number, 1 or more, not {count}")
    items, decay = hparams["test_items"], hparams["ema_decay"]
    if not (isinstance(items, int) and items >= 0):
        raise ValueError(f"--test_items must be a whole number, 0 or more, not {items}")
    if not (isinstance(decay, (int, float)) and 0 <= decay < 1):
        raise ValueError(f"--ema_decay must be 0 or more and below 1, not {decay}")
    minutes = hparams["minutes"]
    if not (isinstance(minutes, (int, float)) and minutes >= 0):
        raise ValueError(f"--minutes must be a number, 0 or more, not {minutes}")
    if minutes and world_size() > 1:
        raise ValueError("--minutes: it takes one process, as clocks differ; give --number_of_epochs")
    chain = hparams["chain"]
    if hparams["batch_size"] % chain:
        raise ValueError(f"--chain {chain} must divide batch_size, which is {hparams['batch_size']}")


def check_model(hparams: dict, brain_class: type[EnhancementBrain]) -> None:
    """Raise ValueError for a preset that is not made for the recipe, or not for the other settings."""
    model, preset = hparams["modules"]["model"], hparams["preset"]
    if model.sample_rate != hparams["sample_rate"]:
        raise ValueError(
            f"sample_rate is {hparams['sample_rate']} Hz and the preset's {model.sample_rate} Hz; "
            "to train at another rate, write a preset for it"
        )
    if brain_class.farend and not model.farend:
        raise ValueError(f"--preset {preset} takes no far end, and this recipe has one; try deepvqe-aec-s")
    if brain_class.finds_delay and not model.finds_delay:
        raise ValueError(
            f"--preset {preset} does not align the far end, and this recipe teaches it to; set align: true"
        )
    if model.farend and not brain_class.farend:
        raise ValueError(f"--preset {preset} takes a far end, and this recipe has none; try deepvqe-s, or recipes/AEC")
    if brain_class.finds_delay and hparams["chain"] > 1 and segment_samples(hparams) % model.hop_length:
        raise ValueError(
            f"--segment_seconds {hparams['segment_seconds']:g} must be whole frames ({model.hop_length} samples), "
            "as delays are known by the frame; or give --chain 1"
        )
    if hparams["bottleneck_only"]:
        check_matching(hparams, model)


def check_matching(hparams: dict, model: EnhancementModel) -> None:
    """Raise ValueError for settings with which `bottleneck_only` cannot work."""
    samples, rate, hop = segment_samples(hparams), hparams["sample_rate"], model.hop_length
    frames = f"segment_seconds must be whole frames of {hop} samples, such as {-(-samples // hop) * hop / rate:g}"
    for fault, remedy in (
        (not isinstance(model.network, DeepVQE), "it is for DeepVQE; choose a preset of that network"),
        (not hparams["init_from"], "it is for trained weights; name them with --init_from"),
        (hparams["chain"] < 2, "it needs scenes that follow one another; give --chain 2 or more"),
        (samples % hop, frames),
        (world_size() > 1, "it takes one process"),
    ):
        if fault:
            raise ValueError(f"--bottleneck_only: {remedy}")


def check_resume(checkpoint: Checkpoint, hparams: dict, test_only: bool) -> None:
    """Raise ValueError for settings with which the run in `output_folder` cannot go on; a test needs less."""
    there = torch.load(checkpoint.paramfiles["model"], map_location="meta", weights_only=True)
    ours = hparams["modules"]["model"].state_dict()
    matching = "matching" in checkpoint.paramfiles
    fault = None
    if {name: value.shape for name, value in there.items()} != {name: value.shape for name, value in ours.items()}:
        fault = f"--preset {hparams['preset']}: {hparams['output_folder']} holds a run of another network"
    elif matching != hparams["bottleneck_only"] and not test_only:
        fault = f"--bottleneck_only: {hparams['output_folder']} holds a run with another value of it"
    if fault:
        raise ValueError(f"{fault}; name another output_folder for this one")
