"""An exported folder to a model hub. The token comes from the environment, and is written nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from sepo_kit.evaluation.model_card import CARD
from sepo_kit.runs import MANIFEST, first_line

TOKEN = "HF_TOKEN"  # the environment variable that has it
WEIGHTS = (".safetensors", ".gguf")


def push(folder: Path | str, hub_id: str, *, dry_run: bool = False, private: bool = True) -> list[Path]:
    """Upload what ``export`` wrote into ``folder`` to ``hub_id``; its files, relative to the folder.

    Parameters
    ----------
    hub_id
        "owner/name"; made where it does not exist.
    dry_run
        Only say which files would go: no network, no token.
    private
        Whether a repository that is made is seen by its owner only.

    Raises
    ------
    ValueError
        The folder is no export, the id is none, or there is no token.
    OSError
        The hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    files = exported(folder)
    try:
        validate_repo_id(hub_id)
        known = hub_id.count("/") == 1
    except HFValidationError:
        known = False
    if not known:
        raise ValueError(f"a hub id is 'owner/name', of letters, digits, -, _ and ., got {hub_id!r}")
    if dry_run:
        return files
    token = os.environ.get(TOKEN)
    if not token:
        raise ValueError(f"{TOKEN} is not set: make a token on the hub that may write, and put it there")
    api = HfApi(token=token)
    try:
        api.create_repo(hub_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=hub_id,
            folder_path=folder,
            allow_patterns=[str(file) for file in files],
            commit_message=f"Upload {folder.name}, exported by sepo_kit",
        )
    except Exception as error:  # of several HTTP libraries
        raise OSError(
            f"{folder} was not pushed to {hub_id}: {first_line(error).replace(token, '***')}; push again"
        ) from None
    return files


def exported(folder: Path) -> list[Path]:
    """The files of an export, sorted; ValueError where ``folder`` is none. Hidden files are left at home."""
    if (folder / MANIFEST).exists():
        raise ValueError(
            f"{folder} is a run folder; write what is to travel with sepo-kit export {folder} FOLDER"
        )
    found = [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    files = [file for file in found if not any(part.startswith(".") for part in file.parts)]
    if Path(CARD) not in files or not any(file.suffix in WEIGHTS for file in files):
        raise ValueError(
            f"{folder} is no export: it needs a {CARD} and weights ({' or '.join(WEIGHTS)}); sepo-kit export makes one"
        )
    return files
