"""Train a speech enhancement network on DNS3-layout data, mixed on the fly, and write a checkpoint folder.

    python train.py hparams/deepvqe_s.yaml --data_folder /path/to/dns3
    torchrun --nproc_per_node=4 train.py hparams/deepvqe.yaml --data_folder /path/to/dns3   # several GPUs

Stopped at any moment, the same command goes on from the last checkpoint.
"""

import sys
from pathlib import Path

import speechbrain as sb
import torch
from dns3_prepare import prepare_dns3
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process, run_on_main

from deepvqe_hub.data import AudioPool, NoisySpeech, RoomPool
from deepvqe_hub.training import EnhancementBrain, publish


def make_data(hparams, split: str, **options) -> NoisySpeech:
    """The mixtures of one split; ``options`` go to :class:`NoisySpeech`."""
    folder = Path(hparams["manifest_folder"])
    common = {"sample_rate": hparams["sample_rate"], "cache": hparams["cache"]}
    rooms = folder / f"{split}_rooms.json"
    return NoisySpeech(
        AudioPool.from_manifest(folder / f"{split}_speech.json", balance=hparams["speaker_balance"], **common),
        AudioPool.from_manifest(folder / f"{split}_noise.json", **common),
        RoomPool.from_manifest(rooms, **common) if rooms.stat().st_size > 2 else None,
        **hparams["mixing"],
        **options,
    )


def main(arguments):
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    torch.set_num_threads(hparams["threads"])
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    run_on_main(prepare_dns3, [hparams["data_folder"], hparams["manifest_folder"]], {"skip_prep": hparams["skip_prep"]})

    train_data = make_data(hparams, "train", size=hparams["items_per_epoch"], seed=hparams["seed"])
    valid_data = make_data(hparams, "valid", size=hparams["valid_items"], seed=hparams["seed"] + 1)
    brain = EnhancementBrain(
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


if __name__ == "__main__":
    main(sys.argv[1:])
