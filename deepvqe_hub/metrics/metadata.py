"""Conditions of a test set from a CSV file: groups for a breakdown, and the talk type for AECMOS."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from deepvqe_hub.metrics.statistics import quantile_ranges
from deepvqe_hub.pairing import Counterparts

MAX_GROUPS = 12  # a column of more different words is a list of names, not of conditions
NONE = "(none)"
_NAME_COLUMNS = ("file", "filename", "id")
_TALK_COLUMNS = ("talk", "talk_type", "scenario", "kind")
_TALK = {
    "st": ("st", "farend", "farendst", "stfarend", "fest", "stfe", "farendsingletalk", "singletalkfarend"),
    "nst": ("nst", "nearend", "nearendst", "stnearend", "nest", "stne", "nearendsingletalk", "singletalknearend"),
    "dt": ("dt", "doubletalk"),
}
_TALK_BY_WORD = {word: talk for talk, words in _TALK.items() for word in words}


class Metadata:
    """The rows of a CSV file that belong to given files.

    The file has a head line and one line a file. The column `file`, `filename` or `id`, the first of them that
    names any of the files, else the first column names the audio file: relative path or stem, with or without suffix.
    Columns without a name, such as the index that pandas writes, are left out. Comma, semicolon or tab separate; with
    semicolons numbers may have a decimal comma.

    Args:
        path: of the CSV file, UTF-8.
        names: relative paths of the audio files.

    Attributes:
        rows: for each name the other columns, `{}` where the file has no line.
        unmatched: names of files without a line.
        columns: names of the other columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no line belongs to any of the files, or several to one; or two columns have one name.
    """

    def __init__(self, path: str | Path, names: Sequence[str]):
        self.path = path
        with open(path, encoding="utf-8-sig", newline="") as file:
            try:
                text = file.read().lstrip("\r\n")
                delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
                reader = csv.DictReader(io.StringIO(text, ""), delimiter=delimiter, restval="", restkey="(more)")
                head, lines = reader.fieldnames or [], list(reader)
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8: save it with that encoding") from error
            except csv.Error as error:
                raise ValueError(f"{path} is no CSV file: {error}") from error
        if not lines:
            raise ValueError(f"{path} has no line below its head")
        twice = next((column for column in head if column.strip() and head.count(column) > 1), None)
        if twice is not None:
            raise ValueError(f"{path} has several columns {twice!r}: rename or remove all but one")
        self._decimal = "," if delimiter == ";" else "."
        columns = [column for column in head if column.strip() not in ("", "(more)")]
        known = [column for name in _NAME_COLUMNS for column in columns if column.lower() == name]
        candidates = known or [*head[:1], *columns[:1]]  # an index may name the files without a name of its own
        for named in candidates:
            self.columns = [column for column in columns if column != named]
            entries = [(line[named].strip(), {c: " ".join(line[c].split()) for c in self.columns}) for line in lines]
            counterparts = Counterparts(entries, str(path))
            found = {name: counterparts.find(name) for name in names}
            if any(row is not None for row in found.values()):
                break
        else:
            tried = '" or "'.join(dict.fromkeys(candidates))
            raise ValueError(f'column "{tried}" of {path} names none of the files, e.g. {next(iter(names))}')
        self.unmatched = [name for name, row in found.items() if row is None]
        self.rows = {name: row or {} for name, row in found.items()}

    def _values(self, column: str) -> list[str]:
        if column not in self.columns:
            raise ValueError(f"{self.path} has no column {column!r}; it has {', '.join(self.columns)}")
        return [row.get(column, "") for row in self.rows.values()]

    def talk_types(self, column: str | None = None) -> dict[str, str | None]:
        """The talk type ("st", "nst", "dt") of each file, None where it is not told.

        Args:
            column: default: the first of `talk`, `talk_type`, `scenario`, `kind` whose words are talk types.

        Raises:
            ValueError: the `column` asked for is not there or holds another word.
        """
        candidates = [column] if column else [c for c in self.columns if c.lower() in _TALK_COLUMNS]
        for candidate in candidates:
            values = self._values(candidate)
            talks = [parse_talk(value) for value in values]
            strange = next((value for value, talk in zip(values, talks) if value and talk is None), None)
            if strange is None and any(talks):
                return dict(zip(self.rows, talks))
            if column:
                raise ValueError(f"column {column!r} of {self.path}: {strange!r} is no talk type; write st, nst or dt")
        return dict.fromkeys(self.rows)

    def groups(
        self, columns: Sequence[str] | None = None, bins: int = 4
    ) -> tuple[dict[str, dict[str, list[str]]], dict[str, str]]:
        """Files by condition.

        Columns of numbers with more different values than `bins` are cut into `bins` ranges of equally many files;
        the others group by value.

        Args:
            columns: which ones; default: all that give 2 to 12 groups of two files or more on average.
            bins: ranges for numbers.

        Returns:
            `{column: {group: [name, ...]}}`, and for each column left out the reason.
        """
        groups, left_out = {}, {}
        for column in self.columns if columns is None else columns:
            values = self._values(column)
            order, labels = _labels(values, [_number(value.replace(self._decimal, ".")) for value in values], bins)
            members = {label: [] for label in order}
            for name, label in zip(self.rows, labels):
                members[label].append(name)
            if columns is None and (len(members) > MAX_GROUPS or 2 * len(members) > max(4, len(labels))):
                left_out[column] = f"{len(members)} groups for {len(labels)} files"
            elif columns is None and len(members) < 2:
                left_out[column] = "one value only"
            else:
                groups[column] = members
        return groups, left_out


def _labels(values: list[str], numbers: list[float], bins: int) -> tuple[list[str], list[str]]:
    """The groups in their order, and the group of each value."""
    filled = [number for value, number in zip(values, numbers) if value]
    if filled and all(math.isfinite(number) for number in filled) and len(set(filled)) > bins:
        order, labels = quantile_ranges(numbers, bins)
        labels = [label or NONE for label in labels]
    else:
        order = sorted({value for value in values if value})
        if not any(math.isnan(number) for number in filled):
            order.sort(key=dict(zip(values, numbers)).get)
        labels = [value or NONE for value in values]
    found = set(labels)
    return [group for group in [*order, NONE] if group in found], labels


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def parse_talk(text: str) -> str | None:
    """ "farend_single_talk", "doubletalk_with_movement", "ST-FE", "dt", ... to "st", "nst", "dt"; else None."""
    word = re.sub(r"[^a-z]", "", text.lower())
    for appendix in ("withmovement", "movement", "static"):
        word = word.removesuffix(appendix)
    return _TALK_BY_WORD.get(word)
