"""What the recipes share: the training loop on SpeechBrain's `Brain`, its settings, checkpoints and publishing."""

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
