"""Prepare training data for joint echo cancellation: clean speech, noise and room responses of a DNS3-layout folder.

Echo scenes are simulated from these, so no echo recordings are needed; three-channel room responses (near-end talker,
loudspeaker, noise source to the same microphone) give the best simulation.

Run by ``train.py``, or alone: python aec_prepare.py DATA_FOLDER SAVE_FOLDER
"""

import argparse
import logging

from deepvqe_hub.data.manifests import write_manifests


def prepare_aec(data_folder, save_folder, skip_prep=False):
    """Write the manifests of :func:`deepvqe_hub.data.manifests.write_manifests`, unless ``skip_prep``."""
    if not skip_prep:
        write_manifests(data_folder, save_folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder")
    parser.add_argument("save_folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_aec(arguments.data_folder, arguments.save_folder)
