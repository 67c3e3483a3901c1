"""Uploading a checkpoint folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from deepvqe_hub.hub.card import usage_of
from deepvqe_hub.hub.folder import FILES, README


def upload(
    folder: str | Path,
    repo_id: str,
    *,
    commit_message: str = "Upload DeepVQE checkpoint",
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
) -> str:
    """Commit the files of a checkpoint folder to a repository, which is made if need be; returns the commit's URL.

    Other files of the folder stay at home. In the model card, usage examples that name the folder name the repository
    instead; the card in the folder is left as it is.

    Args:
        folder: a checkpoint folder.
        repo_id: "owner/name", or a name alone for one's own.
        commit_message: of the commit.
        private: make a new repository private; None is the owner's default.
        token: access token, None for the stored one.
        branch: to commit to, by default main.
        create_pr: open a pull request instead of committing.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    files: dict[str, Path | bytes] = {name: path for name in FILES if (path := Path(folder) / name).is_file()}
    if README in files:
        files[README] = usage_of(files[README].read_text(encoding="utf-8"), repo_id).encode()
    return api.create_commit(
        repo_id,
        [CommitOperationAdd(name, content) for name, content in files.items()],
        commit_message=commit_message,
        revision=branch,
        create_pr=create_pr,
    )
