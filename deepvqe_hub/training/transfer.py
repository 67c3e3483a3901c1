"""Start a training from weights that another one has learnt."""

from __future__ import annotations

import inspect
import logging
import os

import torch

from deepvqe_hub.enhancement import EnhancementModel

logger = logging.getLogger(__name__)


def init_from(model: EnhancementModel, source: str | os.PathLike | EnhancementModel) -> dict[str, list[str]]:
    """Copy trained weights into ``model``: every tensor of the same name and shape.

    An echo canceller may start from a noise suppressor of the same size. Where a layer of ``model`` has more inputs
    than the trained one the additional inputs come last and get zero weights: at first the network does exactly what
    the noise suppressor does, whatever the far end plays, and learns from there to listen to it.

    Args:
        model: what is to be trained; changed in place.
        source: a model, or whatever :func:`deepvqe_hub.load` takes: a name, a folder, a Hub repository, a file.

    Returns:
        Names of tensors: ``copied``, ``widened`` (copied, with zeros for new inputs), ``fresh`` (not in the source, so
        random as they were) and ``unused`` (only in the source).

    Raises:
        ValueError: another kind or size of network, or another sample rate or front end.
    """
    if not isinstance(source, EnhancementModel):
        from deepvqe_hub.hub import load

        name, source = os.fspath(source), load(source)
    else:
        name = "the given model"
    ours, theirs = _kind(model), _kind(source)
    for key in ours:
        if ours[key] != theirs[key]:
            raise ValueError(
                f"init_from: {name} has {key} {theirs[key]}, the model to train {ours[key]}; "
                "choose weights of the same kind of model, or leave init_from empty"
            )
    trained, state = source.state_dict(), model.state_dict()
    report = {"copied": [], "widened": [], "fresh": [], "unused": [key for key in trained if key not in state]}
    values = {}
    for key, old in state.items():
        new = trained.get(key)
        if new is None:
            report["fresh"].append(key)
        elif new.shape == old.shape:
            report["copied"].append(key)
            values[key] = new
        elif _only_inputs_added(old, new):
            report["widened"].append(key)
            values[key] = torch.zeros_like(old)
            values[key][:, : new.shape[1]] = new
        else:
            raise ValueError(
                f"init_from: {key} is {tuple(new.shape)} in {name} and {tuple(old.shape)} in the model to train; "
                "choose weights of a model of the same size, or leave init_from empty"
            )
    model.load_state_dict(values, strict=False)
    _tell(name, report, _differing_options(model, source))
    return report


def _kind(model: EnhancementModel) -> dict:
    return {"network": model.config["network"], "sample_rate": model.sample_rate, "stft": model.stft}


def _only_inputs_added(wide: torch.Tensor, narrow: torch.Tensor) -> bool:
    return (
        wide.dim() == narrow.dim() > 1
        and wide.shape[1] > narrow.shape[1]
        and wide.shape[:1] + wide.shape[2:] == narrow.shape[:1] + narrow.shape[2:]
    )


def _differing_options(model: EnhancementModel, source: EnhancementModel) -> list[str]:
    """Options in which the networks differ, but for those of the far end: same shapes, yet another function."""
    defaults = {name: value.default for name, value in inspect.signature(type(model.network)).parameters.items()}
    ours, theirs = (defaults | part.config["options"] for part in (model, source))
    farend = ("farend_channels", "align_hidden", "dmax")
    return [key for key in ours if _plain(ours[key]) != _plain(theirs.get(key)) and key not in farend]


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _tell(name: str, report: dict[str, list[str]], differing: list[str]) -> None:
    parts = sorted({".".join(key.split(".")[:2]) for key in report["fresh"]})
    logger.info("init_from %s: %d tensors copied", name, len(report["copied"]))
    if report["widened"]:
        logger.info("  with zeros for additional inputs: %s", ", ".join(report["widened"]))
    if parts:
        logger.info("  random, as the source has none: %s", ", ".join(parts))
    if report["unused"]:
        logger.info("  not used: %s", ", ".join(report["unused"]))
    if differing:
        logger.warning("  options differ, so the weights fit in shape and not in meaning: %s", ", ".join(differing))
