"""What a hub has sent, as its cache on this machine says it. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from sepo_kit.runs import file_hash, joint_hash

SHA256 = re.compile(r"[0-9a-f]{64}")


def downloaded(name: str) -> Path | None:
    """Where the hub's model ``name`` lies, as it was loaded last: a folder that is called after its revision. None
    where it was not loaded yet."""
    from huggingface_hub import try_to_load_from_cache  # slow to import

    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub has such names
        return None
    return Path(found).parent if isinstance(found, str) else None


def downloaded_hash(name: str) -> str | None:
    """``weights_hash`` of the hub's model ``name``, of which nothing is read: the cache calls large files by their
    hashes. A revision that changes other files alone is the same model."""
    folder = downloaded(name)
    files = sorted(folder.glob("model*.safetensors")) if folder else []
    called = [(file, file.resolve().name) for file in files]
    return joint_hash(name if SHA256.fullmatch(name) else file_hash(file) for file, name in called)
