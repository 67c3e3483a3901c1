"""List the known models: size, cost, sample rate, far end, and where their weights come from."""

from __future__ import annotations

import argparse
import dataclasses
import json

# Heading, alignment, and what stands below for a row of deepvqe_hub.list_models(); --json has the rest.
COLUMNS = (
    ("name", "<", lambda row: row.name),
    ("parameters", ">", lambda row: f"{row.parameters:,}"),
    ("multiply-adds/s", ">", lambda row: f"{row.macs_per_second / 1e9:.2f} G"),
    ("rate", ">", lambda row: f"{row.sample_rate / 1000:g} kHz"),
    ("far end", "<", lambda row: "yes" if row.farend else "no"),
    ("live", "<", lambda row: "yes" if row.streams else "no"),
    ("weights", "<", lambda row: row.weights),
    ("license", "<", lambda row: row.license),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")


def run(args: argparse.Namespace) -> int:
    import deepvqe_hub

    rows = deepvqe_hub.list_models()
    print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) if args.json else table(rows))
    return 0


def table(rows: list) -> str:
    """The rows as text, a column for each of `COLUMNS`."""
    lines = [[heading for heading, _, _ in COLUMNS], *([text(row) for _, _, text in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    sides = [side for _, side, _ in COLUMNS]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths)).rstrip() for line in lines
    )
