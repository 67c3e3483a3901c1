"""What every ``train.py`` does, from the command line to the published folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process, run_on_main
from torch.utils.data import Dataset

from deepvqe_hub.data import NoisySpeech
from deepvqe_hub.data.manifests import read_pools
from deepvqe_hub.metrics import select_metrics
from deepvqe_hub.metrics.table import check_packages
from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.hparams import load_hparams
from deepvqe_hub.training.publishing import publish
from deepvqe_hub.training.transfer import init_from


def train(
    arguments: list[str],
    prepare: Callable[..., Path],
    brain_class: type[EnhancementBrain] = EnhancementBrain,
    data_class: type[NoisySpeech] = NoisySpeech,
    extend: Callable[[dict, Dataset], Dataset] = lambda hparams, data: data,
) -> None:
    """Train as the hparams file ``arguments[0]`` says, then write the checkpoint folder ``model_folder``.

    Args:
        arguments: of the command line: an hparams file, then overrides and SpeechBrain's run options.
        prepare: ``prepare(data_folder, manifest_folder, skip_prep=...)``, run by one process before all others; returns
            the folder with what :func:`deepvqe_hub.data.manifests.read_pools` reads.
        brain_class, data_class: the training step and its material.
        extend: ``extend(hparams, train_data)`` may put other material beside the simulated one.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    ddp_init_group(run_opts)
    hparams, text = load_hparams(hparams_file, overrides)
    torch.set_num_threads(hparams["threads"])
    sb.create_experiment_directory(hparams["output_folder"])
    if if_main_process():
        head = f"# {hparams_file} with all that it extends, and these options: {' '.join(arguments[1:])}\n"
        Path(hparams["output_folder"], "hyperparams.yaml").write_text(head + text, encoding="utf-8")
    hparams["valid_metrics"] = select_metrics(hparams["valid_metrics"])
    check_packages(hparams["valid_metrics"])  # now, and not after an epoch
    hparams["tensorboard"] = tensorboard(hparams) if hparams["tensorboard"] and if_main_process() else None

    model = hparams["modules"]["model"]
    if model.sample_rate != hparams["sample_rate"]:
        raise ValueError(
            f"sample_rate is {hparams['sample_rate']} Hz and the preset's {model.sample_rate} Hz; "
            "to train at another rate, write a preset for it"
        )
    if hparams["init_from"] and hparams["checkpointer"].find_checkpoint() is None:
        init_from(model, hparams["init_from"])
    if hparams["channels_last"]:
        model.to(memory_format=torch.channels_last)

    folders = [hparams["data_folder"], hparams["manifest_folder"]]
    folder = run_on_main(prepare, folders, {"skip_prep": hparams["skip_prep"]})
    train_data, valid_data = (
        make_data(hparams, folder, split, data_class, size=hparams[size], seed=hparams["seed"] + offset)
        for split, size, offset in (("train", "items_per_epoch", 0), ("valid", "valid_items", 1))
    )
    brain = brain_class(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.fit(
        hparams["epoch_counter"],
        extend(hparams, train_data),
        valid_data,
        train_loader_kwargs=hparams["train_loader"],
        valid_loader_kwargs=hparams["valid_loader"],
    )
    if if_main_process() and not (brain.debug or brain.test_only):
        publish(brain, hparams["model_folder"], hparams["card"])
    ddp_barrier()


def make_data(hparams: dict, folder: Path, split: str, kind: type[NoisySpeech], **options) -> NoisySpeech:
    """Material of one split; ``options`` and ``hparams["mixing"]`` go to the data set."""
    pools = read_pools(
        folder,
        split,
        sample_rate=hparams["sample_rate"],
        cache=hparams["cache"],
        balance=hparams["speaker_balance"],
    )
    if hparams["cache"] and hparams["num_workers"]:  # once, before the loaders fork, and not in each of them
        for pool in filter(None, pools):
            pool.preload()
    return kind(*pools, **hparams["mixing"], **options)


def tensorboard(hparams: dict):
    """A TensorBoard writer in ``output_folder/tensorboard``."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(Path(hparams["output_folder"], "tensorboard")))
