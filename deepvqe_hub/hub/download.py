"""Files from the Hugging Face Hub: its cache, its offline mode, and its many errors in words that help."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from deepvqe_hub.hub.errors import (
    CheckpointError,
    DownloadError,
    GatedRepositoryError,
    HubError,
    NotCachedError,
    RepositoryMissingError,
    RevisionMissingError,
    first_line,
)

_ATTEMPTS = 3  # of a file, at faults that may pass; the Hub's client resumes a cut connection by itself


@dataclass(frozen=True)
class Repository:
    """A repository at a revision, and how to ask for it.

    Args:
        repo_id: "owner/name".
        revision: branch, tag or commit; None for the newest on the default branch.
        token: access token, True for the stored one, False for none, None for the stored one if there is one.
        cache_dir: instead of the usual cache.
        local_files_only: do not ask the server.
        force_download: fetch again what is in the cache.
        commit: what `revision` stands for, once it is known; see `pinned`.
    """

    repo_id: str
    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    force_download: bool = False
    commit: str | None = None

    def __str__(self) -> str:
        return self.repo_id + (f" at revision {self.revision}" if self.revision else "")

    def pinned(self, path: Path) -> Repository:
        """The repository at the commit that a file came from, `path` in its cache.

        All further files are of that commit, though the branch may move meanwhile, and for those in the cache the
        server is not asked: without an answer each request takes ten seconds.
        """
        return replace(self, commit=path.parent.name)

    def file(self, name: str) -> Path:
        """Path in the cache of one file, fetched if need be; its content is compared with the server's checksum.

        Raises:
            HubError: and its kinds, see `deepvqe_hub.hub.errors`.
            CheckpointError: the repository lacks the file.
        """
        path = self._file(name, self.force_download)
        if not _intact(path):
            if self.local_files_only or constants.HF_HUB_OFFLINE:
                raise DownloadError(f"{self}: {name} in the cache is damaged; load it once online to mend it")
            path = self._file(name, force=True)
            if not _intact(path):
                raise DownloadError(f"{self}: {name} does not have the checksum that the server states")
        return path

    def names(self) -> list[str]:
        """Names of all files in the repository, or offline of those in the cache."""
        common = {"revision": self.revision, "token": self.token}
        try:
            if not (self.local_files_only or constants.HF_HUB_OFFLINE):
                return [
                    sibling.rfilename for sibling in huggingface_hub.model_info(self.repo_id, **common).siblings or ()
                ]
            folder = huggingface_hub.snapshot_download(
                self.repo_id, cache_dir=self.cache_dir, local_files_only=True, **common
            )
        except Exception as error:
            raise self.explained(error, "the list of files") from error
        return [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()]

    def _file(self, name: str, force: bool) -> Path:
        for attempt in range(_ATTEMPTS):
            try:
                return Path(
                    huggingface_hub.hf_hub_download(
                        self.repo_id,
                        name,
                        revision=self.commit or self.revision,
                        token=self.token,
                        cache_dir=self.cache_dir,
                        local_files_only=self.local_files_only,
                        force_download=force,
                    )
                )
            except Exception as error:
                if attempt + 1 == _ATTEMPTS or not _may_pass(error):
                    raise self.explained(error, name) from error
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def explained(self, error: Exception, name: str) -> Exception:
        """An error of the Hub's client about a file as one of `deepvqe_hub.hub.errors`; any other as it is."""
        if isinstance(error, errors.HFValidationError):  # the most particular kind first
            return HubError(
                f"{self.repo_id!r} cannot be the name of a repository; they look like owner/name. "
                "There is no local folder of that name either"
            )
        if isinstance(error, errors.GatedRepoError):
            return GatedRepositoryError(
                f"{self} is gated: accept its conditions at {constants.ENDPOINT}/{self.repo_id}, then `hf auth login`"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return RepositoryMissingError(
                f"{constants.ENDPOINT} has no repository {self.repo_id}, or it is private: try `hf auth login`. "
                f"There is no local folder {self.repo_id} either"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return RevisionMissingError(f"{self.repo_id} has no branch, tag or commit {self.revision}")
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return CheckpointError(f"{self} is not a deepvqe-hub checkpoint: it has no {name}")
        if isinstance(error, errors.LocalEntryNotFoundError):
            if constants.HF_HUB_OFFLINE:
                reason = "HF_HUB_OFFLINE is set; unset it, or load it once online"
            elif self.local_files_only:
                reason = "local_files_only is set; load it once without"
            else:
                reason = f"{constants.ENDPOINT} could not be reached ({error.__cause__ or error})"
            return NotCachedError(
                f"{self}: {name} is not in the cache, and {reason}. There is no local folder {self.repo_id} either"
            )
        if isinstance(error, (errors.HfHubHTTPError, OSError, ValueError, ConnectionError)) or _is_transport(error):
            return DownloadError(f"{self}: {name} could not be downloaded: {first_line(error)}")
        return error


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: the server had a bad moment, or the file arrived in part."""
    if isinstance(error, errors.EntryNotFoundError):
        return False
    if isinstance(error, errors.HfHubHTTPError):
        return error.response is not None and error.response.status_code >= 500
    return _is_transport(error) or (isinstance(error, OSError) and "Consistency check" in str(error))


def _is_transport(error: Exception) -> bool:
    """An error of the HTTP client, whose package has changed its name more than once."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _intact(path: Path) -> bool:
    """Compare a large file with its SHA-256, which is its name in the Hub's cache (small files go by other hashes)."""
    digest = path.resolve().name
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        return True
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest() == digest
