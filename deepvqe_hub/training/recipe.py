"""What every ``train.py`` does, from the command line to the published folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process, run_on_main

from deepvqe_hub.data import AudioPool, NoisySpeech, RoomPool
from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.publishing import publish
from deepvqe_hub.training.transfer import init_from


def make_data(hparams: dict, split: str, kind: type[NoisySpeech] = NoisySpeech, **options) -> NoisySpeech:
    """Material of one split from the manifests; ``options`` and ``hparams["mixing"]`` go to the data set."""
    folder = Path(hparams["manifest_folder"])
    common = {"sample_rate": hparams["sample_rate"], "cache": hparams["cache"]}
    rooms = folder / f"{split}_rooms.json"
    return kind(
        AudioPool.from_manifest(folder / f"{split}_speech.json", balance=hparams["speaker_balance"], **common),
        AudioPool.from_manifest(folder / f"{split}_noise.json", **common),
        RoomPool.from_manifest(rooms, **common) if rooms.stat().st_size > 2 else None,
        **hparams["mixing"],
        **options,
    )


def train(
    arguments: list[str],
    prepare: Callable,
    brain_class: type[EnhancementBrain] = EnhancementBrain,
    data_class: type[NoisySpeech] = NoisySpeech,
) -> None:
    """Train as the hparams file ``arguments[0]`` says, then write the checkpoint folder ``model_folder``.

    Args:
        arguments: of the command line: an hparams file, then overrides and SpeechBrain's run options.
        prepare: ``prepare(data_folder, manifest_folder, skip_prep=...)``, run by one process before all others.
        brain_class, data_class: the training step and its material.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    torch.set_num_threads(hparams["threads"])
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    run_on_main(prepare, [hparams["data_folder"], hparams["manifest_folder"]], {"skip_prep": hparams["skip_prep"]})

    seed = hparams["seed"]
    train_data = make_data(hparams, "train", data_class, size=hparams["items_per_epoch"], seed=seed)
    valid_data = make_data(hparams, "valid", data_class, size=hparams["valid_items"], seed=seed + 1)
    if hparams["init_from"] and hparams["checkpointer"].find_checkpoint() is None:
        init_from(hparams["modules"]["model"], hparams["init_from"])
    brain = brain_class(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.fit(
        hparams["epoch_counter"],
        train_data,
        valid_data,
        train_loader_kwargs=hparams["train_loader"],
        valid_loader_kwargs=hparams["valid_loader"],
    )
    if if_main_process():
        publish(brain, hparams["model_folder"], hparams["card"])
    ddp_barrier()
