"""Uploading a checkpoint folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import filter_repo_objects

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
    allow_patterns: list[str] | str | None = None,
    ignore_patterns: list[str] | str | None = None,
    delete_patterns: list[str] | str | None = None,
    keep_card: bool = False,
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
        allow_patterns, ignore_patterns: of the names of files, such as "*.json": what is uploaded, what is not.
        delete_patterns: files of the repository that the same commit removes, unless it uploads or keeps them.
        keep_card: keep a model card that is in the repository, instead of replacing it by that of the folder.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    names = filter_repo_objects(FILES, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
    files: dict[str, Path | bytes] = {name: path for name in names if (path := Path(folder) / name).is_file()}
    removed: set[str] = set()
    if delete_patterns is not None:
        there = [sibling.rfilename for sibling in api.model_info(repo_id, revision=branch).siblings or ()]
        removed = {*filter_repo_objects(there, allow_patterns=delete_patterns)} - {*files, ".gitattributes"}
    if README in files and keep_card and api.file_exists(repo_id, README, revision=branch):
        del files[README]
    if README in files:
        files[README] = usage_of(files[README].read_text(encoding="utf-8"), repo_id).encode()
    return api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in sorted(removed)),
        ],
        commit_message=commit_message,
        revision=branch,
        create_pr=create_pr,
    )
