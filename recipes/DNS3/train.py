"""Train a speech enhancement network on DNS3-layout data, mixed on the fly, and write a checkpoint folder.

    python train.py hparams/deepvqe_s.yaml --data_folder /path/to/datasets
    torchrun --nproc_per_node=4 train.py hparams/deepvqe.yaml --data_folder /path/to/datasets   # several GPUs

Stopped at any moment, the same command goes on from the last checkpoint.
"""

import sys

from dns3_prepare import prepare_dns3

from deepvqe_hub.training import train

if __name__ == "__main__":
    train(sys.argv[1:], prepare_dns3)
