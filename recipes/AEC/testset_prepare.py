"""Write fixed echo scenes of the split `test` as files, to compare models on or to send to others.

    python aec_prepare.py /path/to/datasets prepared
    python testset_prepare.py prepared testset --items 30
    deepvqe evaluate testset/mic --reference testset/nearend --farend testset/farend \\
        --metadata testset/meta.csv --group-by kind --model deepvqe-aec-s

The material is what `aec_prepare.py` has found for the split, or a folder with `clean/test`, `noise/test` and
(optional) `impulse_responses/test`. `mic/`, `farend/` and `nearend/` get FLAC files of equal names at 16 kHz,
`meta.csv` what kind each scene is of, its ratios of near end to echo and to noise, and the delay of the echo, which
is constant; all of it appears at once, or nothing. The same material and seed give the same scenes.
"""

from __future__ import annotations

from torch.utils.data import default_collate

from deepvqe_hub.data import EchoSpeech, mix_echo
from deepvqe_hub.data.scripts import SAMPLE_RATE, Scenes, prepare_testset

# In turn; the chances of EchoSpeech that make a scene of this kind and no other.
KINDS = {
    "farend_single_talk": {"far_only_p": 1.0, "near_only_p": 0.0},
    "nearend_single_talk": {"far_only_p": 0.0, "near_only_p": 1.0},
    "double_talk": {"far_only_p": 0.0, "near_only_p": 0.0},
}
# Talkers at usual levels over an echo path that stays as it is, and nothing broken.
CONDITIONS = {
    "level_dbfs": (-35.0, -20.0),
    **dict.fromkeys(("band_p", "clip_p", "mute_p", "noise_only_p", "clean_only_p"), 0.0),
    **dict.fromkeys(("far_noise_p", "jump_p", "drift_p", "change_p"), 0.0),
}


def scenes(*pools, **options) -> Scenes:
    """All scenes, of each kind in turn."""
    sets = [EchoSpeech(*pools, sample_rate=SAMPLE_RATE, **options, **CONDITIONS, **kind) for kind in KINDS.values()]
    kinds = list(KINDS)
    return (scene(sets[index % len(sets)][index], kinds[index % len(sets)]) for index in range(len(sets[0])))


def scene(item: dict, kind: str) -> tuple[dict, dict]:
    """Signals of one scene by folder, and its line of `meta.csv`."""
    mic, farend, nearend, _ = mix_echo(default_collate([item]), SAMPLE_RATE)
    conditions = {
        "kind": kind,
        "ser_db": f"{item['ser_db']:.1f}" if kind == "double_talk" else "",
        "snr_db": f"{item['snr_db']:.1f}",
        "delay_ms": "" if kind == "nearend_single_talk" else f"{1e3 * item['delay_seconds'][0]:.1f}",
    }
    return {"mic": mic[0], "farend": farend[0], "nearend": nearend[0]}, conditions


if __name__ == "__main__":
    prepare_testset(scenes, __doc__, items=30, snr_db=(5.0, 40.0))
