"""Training material, mixed on the fly in two stages.

A data set draws raw ingredients in the loader, reproducibly; a function turns a batch of them into
mixtures in PyTorch, on the device where training happens:

    speech, noise, rooms = scan("corpus", "train", cache=True)
    data = NoisySpeech(speech, noise, rooms, segment_seconds=4.0, size=10000, seed=1)
    for epoch in range(100):
        data.set_epoch(epoch)
        for batch in torch.utils.data.DataLoader(data, batch_size=16, num_workers=4):
            noisy, clean = mix({name: value.to(device) for name, value in batch.items()})

`EchoSpeech` and `mix_echo` do the same for echo cancellation, `EchoRecordings` reads ready-made mixtures, and
`write_shards` packs recordings into tar files that the pools read.
"""

from deepvqe_hub.data.clips import Clip, find_clips, read_manifest
from deepvqe_hub.data.echo import EchoSpeech, active_frames, mix_echo
from deepvqe_hub.data.mixing import active_power, mix
from deepvqe_hub.data.noisy import NoisySpeech
from deepvqe_hub.data.pools import AudioPool
from deepvqe_hub.data.recordings import EchoRecordings
from deepvqe_hub.data.rooms import RoomPool
from deepvqe_hub.data.scanning import scan
from deepvqe_hub.data.shards import write_shards

__all__ = [
    "AudioPool",
    "Clip",
    "EchoRecordings",
    "EchoSpeech",
    "NoisySpeech",
    "RoomPool",
    "active_frames",
    "active_power",
    "find_clips",
    "mix",
    "mix_echo",
    "read_manifest",
    "scan",
    "write_shards",
]
