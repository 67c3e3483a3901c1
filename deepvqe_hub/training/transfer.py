"""Start a training from weights that another one has learnt."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import torch

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.models import DeepVQE, all_options
from deepvqe_hub.training.growth import check_growth, grow

logger = logging.getLogger(__name__)

Example = Callable[[], dict[str, torch.Tensor]]


def start_weights(model: EnhancementModel, source: str | os.PathLike[str] | EnhancementModel) -> EnhancementModel:
    """The trained model that `model` is to start from, if it can.

    Args:
        model: what is to be trained.
        source: a model, or whatever `deepvqe_hub.load` takes but graphs: a name, folder, Hub repository or file.

    Raises:
        ValueError: another kind of network, sample rate or front end, or one that is larger in some part.
    """
    name = "the given model"
    if not isinstance(source, EnhancementModel):
        from deepvqe_hub.hub import load

        name, source = os.fspath(source), load(source, backend="torch")
    ours, theirs = _kind(model), _kind(source)
    for key in ours:
        if ours[key] != theirs[key]:
            raise ValueError(
                f"init_from: {name} has {key} {theirs[key]}, the model to train {ours[key]}; "
                "choose weights of the same kind of model, or leave init_from empty"
            )
    if _shapes(model) != _shapes(source):
        try:
            if not isinstance(model.network, DeepVQE):
                raise ValueError(f"only DeepVQE grows, and these are two sizes of {ours['network']}")
            check_growth(model.network, source.network)
        except ValueError as error:
            raise ValueError(
                f"init_from: {name} does not fit the model to train: {error}; choose other weights, or leave "
                "init_from empty"
            ) from error
    return source


def init_from(
    model: EnhancementModel, source: str | os.PathLike[str] | EnhancementModel, example: Example | None = None
) -> None:
    """Put trained weights into `model`, whose licence becomes theirs.

    A model of the same size gets a copy. A larger DeepVQE, one with a far end, or both, starts as the function that
    the smaller one has learnt, whatever the far end plays, and learns from there
    (`deepvqe_hub.training.growth.grow`).

    Args:
        model: what is to be trained; changed in place.
        source: a model, or whatever `deepvqe_hub.load` takes but graphs: a name, folder, Hub repository or file.
        example: gives a training batch, a dict with "noisy" and, for echo cancellers, "farend", (batch, samples) each;
            a model that grows gets its first statistics from it, and one that grows by a level needs it.

    Raises:
        ValueError: as `start_weights`.
    """
    source = start_weights(model, source)
    model.license = source.license
    if _shapes(model) == _shapes(source):
        model.load_state_dict(source.state_dict())
        differing = _differing_options(model, source)
        if differing:
            logger.warning(
                "init_from: options differ, so the weights fit in shape and not in meaning: %s", ", ".join(differing)
            )
        return
    spectra = {}
    if example is not None:
        signals = example()
        spectra = {name: model.stft.analyse(signals[name]) for name in ("noisy", "farend") if name in signals}
    grow(model.network, source.network, spectra.get("noisy"), spectra.get("farend"))
    count = [sum(weight.numel() for weight in part.parameters()) for part in (source, model)]
    logger.info("init_from: grown from %d to %d weights", *count)


def _kind(model: EnhancementModel) -> dict:
    return {"network": model.config["network"], "sample_rate": model.sample_rate, "stft": model.stft}


def _shapes(model: EnhancementModel) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def _differing_options(model: EnhancementModel, source: EnhancementModel) -> list[str]:
    """Options in which the networks differ: same shapes, yet another function."""
    ours, theirs = (all_options(part.network, part.config["options"]) for part in (model, source))
    return [key for key in ours if ours[key] != theirs.get(key) and key != "dmax"]
