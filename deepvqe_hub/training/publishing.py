"""From a finished run to a checkpoint folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from speechbrain.utils.checkpoints import Checkpoint

from deepvqe_hub.hub import save_folder
from deepvqe_hub.metrics import METRICS

if TYPE_CHECKING:
    from deepvqe_hub.training.brain import EnhancementBrain


def publish(brain: EnhancementBrain, folder: str | Path, card: dict[str, Any] | None = None) -> Path:
    """Write the averaged weights of the best checkpoint as a folder for `deepvqe_hub.load`.

    Args:
        brain: a `deepvqe_hub.training.EnhancementBrain` after `fit`.
        folder: where to; what a previous run wrote there is replaced.
        card: what the model card says beside what the run knows; see `deepvqe_hub.hub.card.model_card`. Its
            `training` is completed with the facts of the run, its `results` with the scores of validation and test.

    Returns:
        The folder.

    Raises:
        ValueError: the run has no checkpoint with a validation loss.
    """
    best = brain.checkpointer.recover_if_possible(min_key="loss")
    if best is None:
        raise ValueError("no checkpoint has a validation loss yet; train for an epoch at least")
    card = dict(card or {})
    card["training"] = " ".join(filter(None, [card.get("training"), run_facts(brain, best)]))
    card["results"] = {**card.get("results", {}), "Validation mixtures of the run": labelled(best.meta)}
    if brain.test_stats:
        card["results"]["Test mixtures of the run"] = labelled(brain.test_stats)
    card["license"] = card.get("license") or brain.model.license
    card["base_model"] = card.get("base_model") or brain.base_model
    return save_folder(brain.average.module.eval(), folder, card=card, overwrite=True)


def run_facts(brain, best: Checkpoint) -> str:
    """A paragraph on the run that ended in this checkpoint."""
    hparams, meta = brain.hparams, best.meta
    device = torch.cuda.get_device_name() if brain.device_type == "cuda" else brain.device
    start = f", starting from the weights of {brain.start}" if brain.start else ""
    recorded = getattr(hparams, "recordings_folder", "") and hparams.recordings_portion  # settings of the echo recipe
    ready = f", {recorded:.0%} of it mixed beforehand" if recorded else ""
    return (
        f"{meta['steps']:,} optimiser steps on {meta['hours']:.1f} hours of audio{ready}{start} "
        f"(segments of {hparams.segment_seconds:g} s, seed {hparams.seed}, {brain.precision} on {device}, "
        f"PyTorch {torch.__version__}). The weights are an exponential moving average with decay "
        f"{hparams.ema_decay:g}, after epoch {meta['epoch']} of {hparams.number_of_epochs}, where the validation loss "
        f"was lowest ({meta['loss']:.3f})."
    )


def labelled(stats: dict[str, float]) -> dict[str, float]:
    """The scores among some numbers, under the names of the table of measures; none that is undefined."""
    scores = {name: stats[name] for name in METRICS if math.isfinite(stats.get(name, math.nan))}
    return {METRICS[name].label: round(score, METRICS[name].digits) for name, score in scores.items()}
