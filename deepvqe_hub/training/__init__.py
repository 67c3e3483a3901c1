"""What the recipes share: the training loop on SpeechBrain's `Brain`, its settings, checkpoints and publishing.

`recipe` is a run from the command line to the published folder, in the order of its parts: `hparams` reads the settings
and `checks` refuses those that cannot work; `transfer` finds weights to begin with, and `growth` puts them into a
larger network; `brain`, and `echo` for echo cancellers, is the loop; `publishing` writes what came out.

The loop has its learning rates and its clock from `schedule` and its checkpoints from `checkpoints`. `distributed` is
what several processes need, `cuda_graphs` what a GPU likes. `bottleneck` is another loss, for the bottleneck alone, of
which `rest` is the part for digital silence. `curve` draws the log of a run.
"""

from deepvqe_hub._optional import IMPORT_ERRORS, no_speechbrain

try:
    from deepvqe_hub.training.brain import EnhancementBrain
    from deepvqe_hub.training.checkpoints import SafeCheckpointer
    from deepvqe_hub.training.echo import EchoBrain, with_recordings
    from deepvqe_hub.training.hparams import load_hparams
    from deepvqe_hub.training.publishing import publish
    from deepvqe_hub.training.recipe import train
    from deepvqe_hub.training.schedule import WarmupCosine
    from deepvqe_hub.training.transfer import init_from
except IMPORT_ERRORS as error:
    raise ImportError(no_speechbrain("deepvqe_hub.training", "train", error)) from error

__all__ = [
    "EchoBrain",
    "EnhancementBrain",
    "SafeCheckpointer",
    "WarmupCosine",
    "init_from",
    "load_hparams",
    "publish",
    "train",
    "with_recordings",
]
