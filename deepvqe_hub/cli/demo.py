"""Open a page in the browser to try models on one's own recordings.

  deepvqe demo
  deepvqe demo --model my-model --model deepvqe-s        a checkpoint folder of your own beside ours
  deepvqe demo --host 0.0.0.0 --port 8000                for other computers; browsers give these no microphone
                                                         without HTTPS

Needs pip install "deepvqe-hub[demo]"; with "deepvqe-hub[mos]" it shows DNSMOS as well.
"""

from __future__ import annotations

import argparse
import sys

from deepvqe_hub.cli import CommandError
from deepvqe_hub.cli._arguments import DEVICE, MODEL, thread_count, torch_device


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", action="append", default=[], help=f"{MODEL}; may be repeated (default: all with weights)")
    add("--device", type=torch_device, help=DEVICE)
    add("--max-seconds", type=float, default=120, metavar="S", help="longest recording, in seconds (default: 120)")
    add("--threads", type=thread_count, metavar="N", help="threads for computing (default: all)")
    add("--no-scores", action="store_true", help="no DNSMOS, which takes longer than the enhancement")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this computer only)")
    add("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    add("--browser", action="store_true", help="open it in the browser")
    add("--share", action="store_true", help="also through a public address of Gradio's servers, for a week at most")


def run(args: argparse.Namespace) -> int:
    from deepvqe_hub.demo import Studio, launch

    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    studio = Studio(args.model, device=args.device, max_seconds=args.max_seconds, scores=not args.no_scores)
    for name in args.model:
        studio.model(name)  # a name that does not load is better known now
    address = {"server_name": args.host, "server_port": args.port, "share": args.share, "inbrowser": args.browser}
    try:
        page = launch(studio, **address, quiet=True, prevent_thread_lock=True)  # else Gradio advises to share it
    except OSError as error:
        raise CommandError(f"cannot listen on {args.host}: {error}") from error
    print(f"deepvqe: the demo is at {page.local_url}; Ctrl+C ends it", file=sys.stderr)
    page.block_thread()
    return 0
