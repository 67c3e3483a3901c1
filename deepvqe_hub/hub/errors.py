"""What can go wrong on the way to a model, told apart.

Every class is a `ValueError` (the checkpoint is at fault) or a `FileNotFoundError` (it could not be had), so
callers that do not care for the difference need not import any of them.
"""

from __future__ import annotations


class CheckpointError(ValueError):
    """The file or folder is not a checkpoint that this package reads; the message names what is wrong or missing."""


class FormatVersionError(CheckpointError):
    """The checkpoint was written by a later release with a format this one does not know."""


class WeightsMissingError(FileNotFoundError):
    """The name is known, but no weights for it ship with this release."""


class HubError(FileNotFoundError):
    """The Hugging Face Hub did not give what was asked for. Base of the following."""


class RepositoryMissingError(HubError):
    """No such repository, or a private one that the token does not open."""


class RevisionMissingError(HubError):
    """The repository has no such branch, tag or commit."""


class GatedRepositoryError(HubError):
    """The repository's conditions must be accepted on its page first."""


class NotCachedError(HubError):
    """The Hub is out of reach, or was not to be asked, and the cache does not hold the file."""


class DownloadError(HubError):
    """The server answered, but the file did not arrive whole."""


def first_line(error: Exception, *words: str) -> str:
    """The first line of a long message, or its first one with one of `words`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wanted = [line for line in lines if any(word in line for word in words)]
    return (wanted or lines or [type(error).__name__])[0]
