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

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint
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
from deepvqe_hub.data.recordings import splits_of
from deepvqe_hub.data.settings import check_settings
from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.metrics import select_metrics
from deepvqe_hub.metrics.registry import check_packages
from deepvqe_hub.training.bottleneck import check_matching
from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.distributed import world
from deepvqe_hub.training.hparams import load_hparams, parse
from deepvqe_hub.training.publishing import publish
from deepvqe_hub.training.transfer import init_from, start_weights

logger = logging.getLogger(__name__)


def train(
    arguments: list[str],
    prepare: Callable[..., Path],
    brain_class: type[EnhancementBrain] = EnhancementBrain,
    data_class: type[NoisySpeech] = NoisySpeech,
    extend: Callable[[dict, Dataset], Dataset] = lambda hparams, data: data,
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
    brain.hparams.tensorboard = None
    if if_main_process() and not (brain.debug or brain.test_only):
        if hparams["tensorboard"]:
            brain.hparams.tensorboard = tensorboard(hparams)
        options = " ".join(" ".join(arguments[1:]).split())  # in one line, as it is a comment
        head = f"# {hparams_file} with all that it extends, and these options: {options}\n"
        Path(hparams["output_folder"], "hyperparams.yaml").write_text(head + text, encoding="utf-8")
        copy_script(hparams["output_folder"])

    model, start = hparams["modules"]["model"], None
    if hparams["init_from"] and checkpoint is None:
        start = start_weights(model, hparams["init_from"])
        brain.start = hparams["init_from"]
    if hparams["channels_last"]:
        model.to(memory_format=torch.channels_last)

    folder = Path(hparams["manifest_folder"])
    if not hparams["skip_prep"]:
        folder = run_on_main(prepare, [hparams["data_folder"], folder])
    test_data = make_test_data(hparams, folder, data_class)
    if not brain.test_only:
        fit(brain, hparams, folder, data_class, extend, start)
    elif test_data is None:
        raise ValueError(f"--test_only: test_items is 0, or the split test of {folder} does not do, as a warning says")
    if test_data is not None:
        brain.evaluate(test_data, min_key="loss", test_loader_kwargs=dict(hparams["valid_loader"]))
    if if_main_process() and not (brain.debug or brain.test_only):
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


COUNTS = ("number_of_epochs", "items_per_epoch", "valid_items", "batch_size", "grad_accumulation_factor", "chain")


def check(hparams: dict, brain_class: type[EnhancementBrain], data_class: type[NoisySpeech]) -> None:
    """Find settings that cannot work before the data are prepared, which may take hours."""
    check_numbers(hparams)
    check_model(hparams, brain_class)
    for name in ("valid_metrics", "test_metrics"):
        hparams[name] = select_metrics(hparams[name])
        check_packages(hparams[name])
        if "erle" in hparams[name]:
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
    if minutes and world()[1] > 1:
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
            f"--segment_seconds {hparams['segment_seconds']:g} must be whole frames ({model.stft.hop_length} samples), "
            "as delays are known by the frame; or give --chain 1"
        )
    if hparams["bottleneck_only"]:
        check_matching(hparams, model)


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


def fit(
    brain: EnhancementBrain,
    hparams: dict,
    folder: Path,
    data_class: type[NoisySpeech],
    extend: Callable,
    start: EnhancementModel | None,
) -> None:
    """Train on the splits `train` and `valid`, from the last checkpoint or from the beginning, from `start`."""
    seed = hparams["seed"]
    train_data = make_data(hparams, folder, "train", data_class, size=hparams["items_per_epoch"], seed=seed)
    valid_data = make_data(hparams, folder, "valid", data_class, size=hparams["valid_items"], seed=seed + 1)
    if start is not None:
        init_from(hparams["modules"]["model"], start, partial(brain.example, train_data))
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
    """Decode the clips, if they are to be cached, once before the loaders fork and not in each of them.

    Processes that are forked share them; where they are started anew, as on macOS and Windows, each gets a copy.
    """
    if hparams["cache"] and hparams["num_workers"]:
        for pool in pools:
            pool.preload()
        if sys.platform == "linux":  # where Python 3.14 would start them anew, too
            for loader in ("train_loader", "valid_loader"):
                hparams[loader].setdefault("multiprocessing_context", "fork")


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
