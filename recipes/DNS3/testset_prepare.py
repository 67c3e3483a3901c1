"""Write fixed mixtures of the split `test` as files, to compare models on or to send to others.

    python dns3_prepare.py /path/to/datasets prepared
    python testset_prepare.py prepared testset --items 60
    deepvqe evaluate testset/noisy --reference testset/clean --metadata testset/meta.csv --model deepvqe-s

The material is what `dns3_prepare.py` has found for the split, or a folder with `clean/test`, `noise/test` and
(optional) `impulse_responses/test`. `noisy/` and `clean/` get FLAC files of equal names at 16 kHz, `meta.csv`
their signal-to-noise ratios and whether there is a room; all of it appears at once, or nothing. The same material and
seed give the same mixtures, whichever way it is given.
"""

from __future__ import annotations

from torch.utils.data import default_collate

from deepvqe_hub.data import NoisySpeech, mix
from deepvqe_hub.data.scripts import SAMPLE_RATE, Scenes, prepare_testset

# Speech and noise in every file, at levels that are usual, and nothing broken.
CONDITIONS = {
    "level_dbfs": (-35.0, -20.0),
    **dict.fromkeys(("band_p", "clip_p", "mute_p", "noise_only_p", "clean_only_p"), 0.0),
}


def scenes(*pools, **options) -> Scenes:
    """All mixtures, in order."""
    data = NoisySpeech(*pools, sample_rate=SAMPLE_RATE, **options, **CONDITIONS)
    return (mixture(data[index]) for index in range(len(data)))


def mixture(item: dict) -> tuple[dict, dict]:
    """Signals of one mixture by folder, and its line of `meta.csv`."""
    noisy, clean = mix(default_collate([item]), SAMPLE_RATE)
    room = item["room"][0].count_nonzero() > 1  # without one it is an impulse
    return {"noisy": noisy[0], "clean": clean[0]}, {"snr_db": f"{item['snr_db']:.1f}", "room": "yes" if room else "no"}


if __name__ == "__main__":
    prepare_testset(scenes, __doc__, items=60, snr_db=(-5.0, 20.0))
