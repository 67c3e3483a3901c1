"""Enhance live audio: microphone to loudspeaker, or raw PCM from standard input to standard output.

  deepvqe stream                                     microphone to loudspeaker, at a terminal
  deepvqe stream --list-devices
  deepvqe stream --model deepvqe-s.onnx              what deepvqe export has written, without PyTorch
  ffmpeg -i talk.mp4 -ac 1 -ar 48000 -f s16le - | deepvqe stream --rate 48000 | aplay -f S16_LE -r 48000
  deepvqe stream --model deepvqe-aec-s --channels 2 < mic_and_loudspeaker.raw > clean.raw

Raw PCM has no header, so --rate, --format and --channels must say what it is; the output is one channel of the same
rate and format, aligned with the input and as long. Samples that are NaN become silence. Live, b turns the enhancement
off and on, q ends. The microphone hears the loudspeaker: use headphones, or an echo-cancelling model with the
loudspeaker's signal as second channel.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from deepvqe_hub._optional import need
from deepvqe_hub.cli import CommandError, check_output
from deepvqe_hub.cli._arguments import DEVICE, MODEL, thread_count, torch_device


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="deepvqe-s", help=f"{MODEL} (default: deepvqe-s)")
    add("--rate", type=int, metavar="HZ", help="sample rate of input and output (default: the model's)")
    add("--format", choices=("s16le", "f32le"), default="s16le", help="samples of raw PCM (default: s16le)")
    add("--channels", type=int, choices=(1, 2), default=1, help="of the input; the second is the far end (default: 1)")
    add("--live", action="store_true", help="use sound devices although standard input is no terminal")
    add("--list-devices", action="store_true", help="list the sound devices")
    add("--input-device", metavar="NAME", help="number, or part of the name, of the microphone (default: the system's)")
    add("--output-device", metavar="NAME", help="the same for the loudspeaker")
    add("--block", type=float, metavar="MS", help="length of a block of the sound devices (default: 16)")
    add("--device", type=torch_device, help=DEVICE)
    add("--threads", type=thread_count, default=1, metavar="N", help="threads for computing (default: 1)")
    add("-q", "--quiet", action="store_true", help="no meter and no report")


def run(args: argparse.Namespace) -> int:
    if args.list_devices:
        print(sound_devices().query_devices())
        return 0
    if args.block is not None and not 1 <= args.block <= 1000:
        raise CommandError(f"--block must be from 1 to 1000 ms, not {args.block}")
    live = args.live or sys.stdin.isatty()
    if not live and (args.input_device or args.output_device or args.block):
        raise CommandError("--input-device, --output-device and --block are for sound devices; add --live")
    if not live:
        check_output("use sound devices with --live")
    device = sound_devices() if live else None  # whether there are any is better known before loading

    from deepvqe_hub.cli._live import Converter, open_stream

    stream = open_stream(args.model, args.threads, args.device)
    if stream.farend and args.channels == 1:
        print(
            "deepvqe: warning: without the loudspeaker's signal echo stays; give it as second channel, --channels 2",
            file=sys.stderr,
        )
    converter = Converter(stream, stream.sample_rate if args.rate is None else args.rate, args.channels)
    if live:
        return run_live(args, converter, device)
    return run_pipe(args, converter)


def run_pipe(args: argparse.Namespace, converter) -> int:
    from deepvqe_hub.cli._live import pipe

    source, sink = sys.stdin.fileno(), sys.stdout.fileno()

    def write(data: bytes) -> None:
        while data:
            try:
                data = data[os.write(sink, data) :]
            except BrokenPipeError:
                raise
            except OSError as error:
                raise CommandError(f"cannot write to standard output: {error.strerror}") from error

    try:
        for strange in pipe(converter, lambda size: os.read(source, size), write, args.format):
            print(f"deepvqe: warning: {strange}", file=sys.stderr)
    except BrokenPipeError:  # whoever listened has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sink)
    report(args, f"{converter.taken / converter.rate:.2f} s", converter, converter.latency)
    return 0


def report(args: argparse.Namespace, done: str, converter, held: int) -> None:
    """`held`: the most samples that were, or will be, taken in and not yet given out."""
    if not args.quiet:
        model, most = converter.stream.latency * 1e3, held / converter.rate * 1e3
        print(
            f"deepvqe: {done}, latency {model:.0f} ms by design, at most {most:.0f} ms of input held", file=sys.stderr
        )


def run_live(args: argparse.Namespace, converter, sounddevice) -> int:
    from deepvqe_hub.cli._live import Live

    ms = 16 if args.block is None else args.block
    block = round(ms * converter.rate / 1000)
    names = [int(n) if n and n.isdigit() else n for n in (args.input_device, args.output_device)]
    try:
        device = sounddevice.Stream(
            samplerate=converter.rate,
            blocksize=block,
            device=names,
            channels=(args.channels, 1),
            dtype="float32",
            latency="low",
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise CommandError(f"cannot open the sound devices: {error}; see deepvqe stream --list-devices") from error
    loop = Live(converter, device, block)
    try:
        with device, keys() as pressed:
            report(args, f"{converter.rate} Hz, blocks of {ms:g} ms; b: bypass, q: quit", converter, loop.silence)
            meter = max(1, round(0.2 * converter.rate / block))
            while (key := pressed()) != "q":
                loop.bypass ^= key == "b"
                loop.step()
                if not args.quiet and loop.blocks % meter == 0:
                    print(f"\r{loop.status()}", end="", file=sys.stderr, flush=True)
    except sounddevice.PortAudioError as error:
        raise CommandError(f"the sound devices stopped: {error}") from error
    finally:  # also after Ctrl-C
        if not args.quiet:
            delay = (loop.silence / converter.rate + sum(device.latency)) * 1e3
            print(f"\ndeepvqe: {loop.blocks} blocks, {loop.missed} missed, {delay:.0f} ms in all", file=sys.stderr)
    return 0


def sound_devices():
    """The module `sounddevice`, or an error with the remedy."""
    try:
        return need("sounddevice", "live audio", "live")
    except ImportError as error:
        raise CommandError(
            f"{error}; on Linux it needs the system's package libportaudio2 as well; or pipe raw PCM through standard "
            "input and output"
        ) from error


@contextlib.contextmanager
def keys():
    """A function that returns the key pressed since the last call, or None, without waiting."""
    try:
        import select
        import termios
        import tty
    except ImportError:  # not a Unix: Ctrl-C still ends
        yield lambda: None
        return
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (termios.error, OSError, ValueError):  # input that is no terminal
        yield lambda: None
        return

    def pressed() -> str | None:
        waiting, _, _ = select.select([descriptor], [], [], 0)
        # Not through sys.stdin, which would take all that was typed into its buffer, where select does not look.
        return os.read(descriptor, 1).decode(errors="replace") if waiting else None

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
