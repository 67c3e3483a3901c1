"""What every `train.py` does, from the command line to the published folder."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.distributed import (
    ddp_barrier,
    ddp_init_group,
    if_main_process,
    is_distributed_initialized,
    run_on_main,
)
from torch.utils.data import Dataset

from deepvqe_hub.data import NoisySpeech
from deepvqe_hub.data.manifests import read_pools
from deepvqe_hub.data.pools import Pool
from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.hub.resolving import resolve
from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.checks import check, check_resume
from deepvqe_hub.training.hparams import load_hparams, parse
from deepvqe_hub.training.publishing import publish
from deepvqe_hub.training.transfer import init_from, start_weights

logger = logging.getLogger(__name__)


def train(
    arguments: list[str],
    prepare: Callable[..., Path],
    brain_class: type[EnhancementBrain] = EnhancementBrain,
    data_class: type[NoisySpeech] = NoisySpeech,
    extend: Callable[[dict[str, Any], Dataset[Any]], Dataset[Any]] = lambda hparams, data: data,
) -> None:
    """Train as the hparams file `arguments[0]` says, test, and write the checkpoint folder `model_folder`.

    `--test_only` tests the best checkpoint of the run and `--debug` tries all stages; both publish nothing.

    Args:
        arguments: of the command line: an hparams file, then overrides and SpeechBrain's run options.
        prepare: `prepare(data_folder, manifest_folder)`, run by one process before all others, but for `--skip_prep`;
            returns the folder with what `deepvqe_hub.data.manifests.read_pools` reads.
        brain_class, data_class: the training step and its material.
        extend: `extend(hparams, train_data)` may put other material beside the simulated one.

    Raises:
        ValueError: settings that do not fit, before anything is prepared.
    """
    hparams_file, run_opts, overrides = parse(arguments)
    ddp_init_group(run_opts)
    hparams, text = load_hparams(hparams_file, overrides, {name: run_opts[name] for name in run_opts.overridden_args})
    check(hparams, brain_class, data_class)
    torch.set_num_threads(hparams["threads"])
    sb.create_experiment_directory(hparams["output_folder"])
    brain = brain_class(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    if brain.test_only and brain.checkpointer.find_checkpoint(min_key="loss") is None:
        raise ValueError(f"--test_only: {hparams['save_folder']} holds no finished epoch; give the options of the run")
    checkpoint = brain.checkpointer.find_checkpoint()
    if checkpoint is not None:
        check_resume(checkpoint, hparams, brain.test_only)
    if brain.debug:  # the log of the run is none of its business
        brain.hparams.train_logger.save_file = os.devnull
    leaves_files = if_main_process() and not (brain.debug or brain.test_only)
    brain.hparams.tensorboard = tensorboard(hparams) if leaves_files and hparams["tensorboard"] else None
    if leaves_files:
        options = " ".join(" ".join(arguments[1:]).split())  # in one line, as it is a comment
        head = f"# {hparams_file} with all that it extends, and these options: {options}\n"
        Path(hparams["output_folder"], "hyperparams.yaml").write_text(head + text, encoding="utf-8")
        copy_script(hparams["output_folder"])

    source = None
    if hparams["init_from"] and checkpoint is None:
        source = start_weights(brain.model, hparams["init_from"])
        place = resolve(hparams["init_from"])
        brain.start, brain.base_model = hparams["init_from"], place.name if place.kind == "repository" else None
    if hparams["channels_last"]:
        brain.model.to(memory_format=torch.channels_last)

    folder = Path(hparams["manifest_folder"])
    if not hparams["skip_prep"]:
        folder = run_on_main(prepare, [hparams["data_folder"], folder])
    test_data = make_test_data(hparams, folder, data_class)
    if not brain.test_only:
        fit(brain, hparams, folder, data_class, extend, source)
    elif test_data is None:
        raise ValueError(f"--test_only: test_items is 0, or the split test of {folder} does not do, as a warning says")
    if test_data is not None:
        brain.evaluate(test_data, min_key="loss", test_loader_kwargs=dict(hparams["valid_loader"]))
    if leaves_files:
        model_folder = publish(brain, hparams["model_folder"], hparams["card"])
        logger.info("the model is in %s; hear it: deepvqe enhance noisy.wav --model %s", model_folder, model_folder)
    ddp_barrier()
    if is_distributed_initialized():
        # Threads of the connection, and of the model wrapped for it, that are there when the program ends may abort it.
        torch.distributed.destroy_process_group()
        del brain, hparams
        gc.collect()


def copy_script(folder: str) -> None:
    """Keep the script that runs, which SpeechBrain means to; it takes this module for that and keeps a copy of it."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is not None and Path(script).is_file():
        with contextlib.suppress(shutil.SameFileError):  # it is that copy which runs
            shutil.copy(script, folder)


def fit(
    brain: EnhancementBrain,
    hparams: dict,
    folder: Path,
    data_class: type[NoisySpeech],
    extend: Callable,
    source: EnhancementModel | None,
) -> None:
    """Train on the splits `train` and `valid`, from the last checkpoint or from the beginning, from `source`."""
    seed = hparams["seed"]
    train_data = make_data(hparams, folder, "train", data_class, size=hparams["items_per_epoch"], seed=seed)
    valid_data = make_data(hparams, folder, "valid", data_class, size=hparams["valid_items"], seed=seed + 1)
    if source is not None:
        init_from(brain.model, source, partial(brain.example, train_data))
    brain.fit(
        hparams["epoch_counter"],
        extend(hparams, train_data),
        valid_data,
        train_loader_kwargs=hparams["train_loader"],
        valid_loader_kwargs=hparams["valid_loader"],
    )


def make_data(hparams: dict, folder: Path, split: str, data_class: type[NoisySpeech], **options) -> NoisySpeech:
    """Material of one split; `options` and `hparams["mixing"]` go to the data set."""
    pools = read_pools(
        folder,
        split,
        sample_rate=hparams["sample_rate"],
        cache=hparams["cache"],
        balance=hparams["speaker_balance"],
    )
    preload(hparams, filter(None, pools))
    return data_class(*pools, **hparams["mixing"], **options)


def preload(hparams: dict, pools: Iterable[Pool]) -> None:
    """Decode the clips, if they are to be cached, once before the loaders fork and not in each of them."""
    if hparams["cache"] and hparams["num_workers"]:
        for pool in pools:
            pool.preload()


def make_test_data(hparams: dict, folder: Path, data_class: type[NoisySpeech]) -> NoisySpeech | None:
    """The fixed mixtures of the test, if it is wanted and there is material for it."""
    if not hparams["test_items"]:
        return None
    try:
        return make_data(hparams, folder, "test", data_class, size=hparams["test_items"], seed=hparams["seed"] + 2)
    except (FileNotFoundError, ValueError) as error:  # nothing there, or one talker where echo takes two
        logger.warning("no test at the end, for want of material in the split test: %s", error)
        return None


def tensorboard(hparams: dict):
    """A TensorBoard writer in `output_folder/tensorboard`."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(Path(hparams["output_folder"], "tensorboard")))
