"""Prepare the DNS3 data: the 16 kHz edition of the Interspeech 2021 Deep Noise Suppression Challenge.

Get the data with the download scripts of github.com/microsoft/DNS-Challenge (branch interspeech2021/master) and put
clean speech, noise and room impulse responses into ``clean/``, ``noise/`` and ``impulse_responses/`` of one folder.

Run by ``train.py``, or alone: python dns3_prepare.py DATA_FOLDER SAVE_FOLDER
"""

import argparse
import logging

from deepvqe_hub.data.manifests import write_manifests


def prepare_dns3(data_folder, save_folder, skip_prep=False):
    """Write the manifests of :func:`deepvqe_hub.data.manifests.write_manifests`, unless ``skip_prep``."""
    if not skip_prep:
        write_manifests(data_folder, save_folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder")
    parser.add_argument("save_folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_dns3(arguments.data_folder, arguments.save_folder)
