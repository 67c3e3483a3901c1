"""Prepare training data for joint echo cancellation: clean speech, noise and room responses of a DNS3-layout folder.

Echo scenes are simulated from these, so no echo recordings are needed; room responses with three channels (near-end
talker, loudspeaker and noise source to the same microphone) give the best simulation. What to download for DATA_FOLDER
is said in `recipes/DNS3/dns3_prepare.py`, and a folder prepared there serves here, too.

Run by `train.py`, or alone:

    python aec_prepare.py DATA_FOLDER SAVE_FOLDER [--shards]
"""

from deepvqe_hub.data.manifests import write_manifests as prepare_aec
from deepvqe_hub.data.scripts import prepare_data

__all__ = ["prepare_aec"]

if __name__ == "__main__":
    prepare_data(__doc__)
