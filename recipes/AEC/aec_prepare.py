"""Prepare training data for joint echo cancellation: clean speech, noise and room responses of a DNS3-layout folder.

Echo scenes are simulated from these, so no echo recordings are needed; room responses with three channels (near-end
talker, loudspeaker and noise source to the same microphone) give the best simulation. What to download for DATA_FOLDER
is said in ``recipes/DNS3/dns3_prepare.py``, and a folder prepared there serves here, too.

Run by ``train.py``, or alone:

    python aec_prepare.py DATA_FOLDER SAVE_FOLDER [--shards]
"""

from deepvqe_hub.data.manifests import command_line, write_manifests


def prepare_aec(data_folder, save_folder, skip_prep=False, shards=False):
    """List or pack the clips of each split; returns the folder for `deepvqe_hub.data.manifests.read_pools`.

    With ``skip_prep`` nothing is looked at: ``save_folder`` must have been prepared before. See
    `deepvqe_hub.data.manifests.write_manifests` for what is written and which errors are raised.
    """
    return save_folder if skip_prep else write_manifests(data_folder, save_folder, shards=shards)


if __name__ == "__main__":
    command_line(prepare_aec, __doc__)
