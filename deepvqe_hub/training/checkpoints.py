"""Checkpoints that are either whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process


class SafeCheckpointer(Checkpointer):
    """SpeechBrain's `Checkpointer`, for processes that may be killed while they write.

    SpeechBrain writes the description of a checkpoint first and the tensors after it, so a process killed in between
    leaves a folder that looks like the latest checkpoint and cannot be loaded. Here a checkpoint is written aside and
    moved to its place, in one step, when it is complete.
    """

    def save_checkpoint(self, *args, **kwargs):
        """See `Checkpointer.save_checkpoint`; all processes must call it."""
        folder, aside = Path(self.checkpoints_dir), Path(self.checkpoints_dir) / "unfinished"
        if if_main_process():
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
        self.checkpoints_dir = aside
        try:
            checkpoint = super().save_checkpoint(*args, **kwargs)
        finally:
            self.checkpoints_dir = folder
        if checkpoint is not None:  # None on all processes but the first
            path = free(folder / checkpoint.path.name)
            os.replace(checkpoint.path, path)
            files = {name: path / file.name for name, file in checkpoint.paramfiles.items()}
            checkpoint = checkpoint._replace(path=path, paramfiles=files)
            aside.rmdir()
        ddp_barrier()
        return checkpoint


def free(path: Path) -> Path:
    """`path`, or the next one that does not exist: SpeechBrain's names end in a second and a number of two digits."""
    number = 0
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.rpartition('+')[0]}+{number:02d}")
    return path
