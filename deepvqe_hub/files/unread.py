"""What libsndfile leaves unread or misreads without a word: ends of files, joined recordings, headers of pipes."""

from __future__ import annotations

import os
import re
from itertools import takewhile
from typing import BinaryIO

_NEAR = 1 << 16  # bytes, more than an Ogg page or some MPEG frames take
_FEW = 1 << 12  # bytes, more than two MPEG frames: some encoders leave one out of their count
_COUNTED = re.compile(rb"(?:Xing|Info)\0\0\0[\3\7\x0b\x0f].{4}(?!\0{4})(.{4})", re.S)  # frames, and bytes
_PAGE = re.compile(rb"OggS\0(.).{8}(.{4})", re.S)  # flags and serial number


class Endless:
    """An MP3 file whose end cannot be found by seeking: libmpg123 then counts its frames, where else it would guess.

    Args:
        file: open for reading; an ID3v2 tag at its beginning is left out.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._start, self._reached = file, _first_frame(file), 0
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            self._file.seek(self._start + offset)
        elif whence == os.SEEK_CUR:
            self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return self._file.tell() - self._start

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._reached = max(self._reached, self._file.tell())
        return data

    def breaks_off(self) -> bool:
        """Whether frames lie behind the furthest place that was read, and not just tags."""
        at = self._file.tell()
        head, rest = _at(self._file, self._start, 2), _at(self._file, self._reached, _NEAR)
        self._file.seek(at)
        return rest.count(head) > 1 + len(rest) // 2000  # no frame is longer


def joined(file: BinaryIO, container: str) -> bool:
    """Whether a second recording follows the one that libsndfile reads, as `cat a.mp3 b.mp3` makes it."""
    if container == "MP3":
        start = _first_frame(file)
        tag = _COUNTED.search(_at(file, start, 64))
        end = start + int.from_bytes(tag[1], "big") if tag else file.seek(0, os.SEEK_END)
        end += 128 if _at(file, end, 3) == b"TAG" else 0  # ID3v1
        rest = _at(file, end, _FEW)
        return len(rest) == _FEW and (rest.startswith(b"ID3") or (rest[0] == 0xFF and rest[1] >= 0xE0))
    pages = _PAGE.findall(_at(file, 0, _NEAR))
    begun = {serial for flags, serial in takewhile(lambda page: page[0][0] & 2, pages)}
    last = _PAGE.findall(_at(file, max(0, file.seek(0, os.SEEK_END) - _NEAR), _NEAR))
    return bool(begun and last) and last[-1][1] not in begun


def stated_length(file: BinaryIO) -> int:
    """How many samples a channel the header of a NIST file says that there are, 0 where it does not say."""
    stated = re.search(rb"^sample_count -i (\d+)", _at(file, 0, 1024), re.M)
    return int(stated[1]) if stated else 0


def caf_end(file: BinaryIO) -> int:
    """Where the samples of a CAF file end by its header, in bytes; 0 where it does not say."""
    place, kind = 8, b""
    while kind != b"data":
        head = _at(file, place, 12)
        kind, size = head[:4], int.from_bytes(head[4:], "big", signed=True)
        if len(head) < 12 or size < 0:
            return 0
        place += 12 + size
    return place


def breaks_off(file: BinaryIO) -> bool:
    """Whether an Ogg file ends within a page, and so was cut.

    One that ends with a page, but not the one that is marked as the last, is taken as a live recording that was stopped
    from outside. Like WAV and FLAC files without a length it holds all that was written.
    """
    tail = _at(file, max(0, file.seek(0, os.SEEK_END) - _NEAR), _NEAR)
    start = tail.rfind(b"OggS\0")
    page = tail[max(start, 0) :]
    return start >= 0 and (len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]))


def begins_twice(file: BinaryIO) -> bool:
    """Whether the header is there a second time, as libsndfile leaves it where it writes into a pipe.

    With W64, CAF, PVF and MAT5 it is then read as samples. Of sox, these formats are written by libsndfile.
    """
    data = _at(file, 0, _NEAR)
    return data.find(data[:12], 12) > 0  # PVF has a header of 14 bytes and more


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _first_frame(file: BinaryIO) -> int:
    """Where an MP3 file begins behind its ID3v2 tags."""
    start = 0
    while (head := _at(file, start, 10)).startswith(b"ID3") and len(head) == 10:
        size = sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:])))
        start += 10 + size + (10 if head[5] & 16 else 0)  # a footer
    return start
