"""Prepare the DNS3 data: the 16 kHz edition of the Interspeech 2021 Deep Noise Suppression Challenge.

What to download: github.com/microsoft/DNS-Challenge, script download-dns-challenge-3.sh. The wideband archives
`datasets.clean.*`, `datasets.noise` and `datasets.impulse_responses` (229 GB unpacked; `datasets_fullband`
is not needed) unpack into one folder, which is DATA_FOLDER:

    datasets/clean/read_speech/*.wav ...    datasets/noise/*.wav    datasets/impulse_responses/SLR26/ ...

Any other folder with `clean/` and `noise/` (and `impulse_responses/`) will do as well.

Run by `train.py`, or alone:

    python dns3_prepare.py DATA_FOLDER SAVE_FOLDER            # JSON manifests
    python dns3_prepare.py DATA_FOLDER SAVE_FOLDER --shards   # tar shards for cluster storage

SAVE_FOLDER can be given to `train.py` as `--data_folder`; with shards it can be moved to another place before.
"""

from deepvqe_hub.data.manifests import write_manifests as prepare_dns3
from deepvqe_hub.data.scripts import prepare_data

__all__ = ["prepare_dns3"]

if __name__ == "__main__":
    prepare_data(__doc__)
