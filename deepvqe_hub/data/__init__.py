"""Training material, mixed on the fly in two stages.

A data set draws raw ingredients in the loader, reproducibly; a function turns a batch of them into
mixtures in PyTorch, on the device where training happens:

    speech, noise, rooms = scan("corpus", "train", cache=True)
    data = NoisySpeech(speech, noise, rooms, segment_seconds=4.0, size=10000, seed=1)
    for epoch in range(100):
        data.set_epoch(epoch)
        for batch in torch.utils.data.DataLoader(data, batch_size=16, num_workers=4):
            noisy, clean = mix({name: value.to(device) for name, value in batch.items()})
"""

from .clips import Clip, find_clips
from .echo import EchoSpeech, active_frames, mix_echo
from .layout import scan
from .mixing import active_power, mix
from .noisy import NoisySpeech
from .pools import AudioPool
from .rooms import RoomPool

__all__ = [
    "AudioPool",
    "Clip",
    "EchoSpeech",
    "NoisySpeech",
    "RoomPool",
    "active_frames",
    "active_power",
    "find_clips",
    "mix",
    "mix_echo",
    "scan",
]
