"""Upload a checkpoint folder to the Hugging Face Hub.

The folder is loaded first, as strictly as its users will load it; a broken one is not uploaded. Where the model card's
examples name the folder, the uploaded one names REPO_ID; it replaces a card that was edited on the Hub. The token
comes from `hf auth login` or the variable HF_TOKEN.

  deepvqe push my-model someone/my-model
  deepvqe push my-model someone/my-model --private --commit-message "After 200 epochs"
"""

from __future__ import annotations

import argparse

from deepvqe_hub.cli import CommandError


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="checkpoint folder, as save_pretrained and the recipes write it")
    add("repo_id", metavar="REPO_ID", help="owner/name; made if it does not exist")
    add("--private", action="store_true", help="make a new repository private")
    add("--branch", help="branch to commit to (default: main)")
    add("--create-pr", action="store_true", help="open a pull request instead of committing")
    add("--commit-message", default="Upload DeepVQE checkpoint", help="commit message (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    from deepvqe_hub.hub.folder import read_folder
    from deepvqe_hub.hub.upload import upload

    read_folder(args.folder)  # raises for anything that does not load
    try:
        commit = upload(
            args.folder,
            args.repo_id,
            commit_message=args.commit_message,
            private=args.private or None,
            branch=args.branch,
            create_pr=args.create_pr,
        )
    except Exception as error:  # the Hub's client raises whatever its HTTP library does
        hint = " (is `hf auth login` done?)" if isinstance(error, (HfHubHTTPError, LocalTokenNotFoundError)) else ""
        raise CommandError(f"{args.repo_id}: not uploaded: {error}{hint}") from error
    print(getattr(commit, "commit_url", commit))
    return 0
