"""Train joint echo cancellation, noise suppression and dereverberation on simulated scenes.

    python train.py hparams/deepvqe_aec_s.yaml --data_folder /path/to/dns3
    torchrun --nproc_per_node=4 train.py hparams/deepvqe_aec.yaml --data_folder /path/to/dns3   # several GPUs

Stopped at any moment, the same command goes on from the last checkpoint.
"""

import sys

from aec_prepare import prepare_aec

from deepvqe_hub.data import EchoSpeech
from deepvqe_hub.training import EchoBrain, train

if __name__ == "__main__":
    train(sys.argv[1:], prepare_aec, EchoBrain, EchoSpeech)
