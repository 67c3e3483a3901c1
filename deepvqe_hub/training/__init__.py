"""What the recipes share: the training loop on SpeechBrain's ``Brain``, the learning-rate schedule, publishing."""

from deepvqe_hub.training.brain import EnhancementBrain
from deepvqe_hub.training.echo import EchoBrain
from deepvqe_hub.training.publishing import publish
from deepvqe_hub.training.recipe import train
from deepvqe_hub.training.schedule import WarmupCosine

__all__ = ["EchoBrain", "EnhancementBrain", "WarmupCosine", "publish", "train"]
