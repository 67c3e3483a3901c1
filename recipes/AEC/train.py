"""Train joint echo cancellation, noise suppression and dereverberation on simulated scenes.

    python train.py hparams/deepvqe_aec_s.yaml --data_folder /path/to/datasets
    python train.py hparams/deepvqe_aec_s.yaml --data_folder /path/to/datasets --init_from deepvqe-s
    torchrun --nproc_per_node=4 train.py hparams/deepvqe_aec.yaml --data_folder /path/to/datasets   # several GPUs

Stopped at any moment, the same command goes on from the last checkpoint.
"""

import sys

from aec_prepare import prepare_aec

from deepvqe_hub.data import EchoSpeech
from deepvqe_hub.training import EchoBrain, train, with_recordings

if __name__ == "__main__":
    train(sys.argv[1:], prepare_aec, EchoBrain, EchoSpeech, extend=with_recordings)
