"""Mixing speed on one core: python benchmarks/mixing.py CORPUS"""

from __future__ import annotations

import argparse
import time

import torch
from torch.utils.data import default_collate

from deepvqe_hub.data import EchoSpeech, NoisySpeech, mix, mix_echo, scan


def main() -> None:
    """Time drawing and mixing separately and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="folder laid out like the DNS challenge data")
    parser.add_argument("--split", default="train", help="sub-folder of clean/, noise/, impulse_responses/")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of an item")
    parser.add_argument("--batch", type=int, default=16, help="items in a batch")
    parser.add_argument("--batches", type=int, default=8, help="batches to time")
    parser.add_argument("--no-cache", action="store_true", help="read from disk every time")
    parser.add_argument("--device", default="cpu", help="where to mix")
    parser.add_argument("--echo", action="store_true", help="echo scenes instead of noisy speech")
    options = parser.parse_args()

    torch.set_num_threads(1)
    start = time.perf_counter()
    speech, noise, rooms = scan(options.corpus, options.split)
    print(f"scan: {time.perf_counter() - start:.1f} s, speech {speech.hours:.2f} h, noise {noise.hours:.2f} h")
    if not options.no_cache:
        start = time.perf_counter()
        for pool in (speech, noise, rooms):
            if pool is not None:
                pool.preload()
        print(f"decode into memory: {time.perf_counter() - start:.1f} s")
    kind, mixer = (EchoSpeech, mix_echo) if options.echo else (NoisySpeech, mix)
    data = kind(speech, noise, rooms, segment_seconds=options.seconds, size=options.batch * (options.batches + 1))

    def timed(step):
        begin = time.perf_counter()
        result = step()
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - begin, result

    drawing = mixing = 0.0
    for number in range(options.batches + 1):
        rows = range(number * options.batch, (number + 1) * options.batch)
        drawn, batch = timed(lambda rows=rows: default_collate([data[i] for i in rows]))
        batch = {name: value.to(options.device) for name, value in batch.items()}
        mixed, _ = timed(lambda batch=batch: mixer(batch))
        if number:  # the first batch warms up
            drawing, mixing = drawing + drawn, mixing + mixed
    total = options.batches * options.batch * options.seconds
    print(f"draw: {total / drawing:.0f} h per hour and core")
    print(f"mix:  {total / mixing:.0f} h per hour on {options.device}, one thread")
    print(f"both: {total / (drawing + mixing):.0f} h per hour")


if __name__ == "__main__":
    main()
