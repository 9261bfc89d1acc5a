"""Where the user's own files lie that are not of one run: what is built or paid for once, and configuration."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where built models and paid replies are kept: $SEPO_KIT_CACHE, else the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sepo_kit"
    return Path(os.environ.get("SEPO_KIT_CACHE") or fallback)


def config_folder() -> Path:
    """Where the user's configuration lies: $XDG_CONFIG_HOME/sepo_kit, else ~/.config/sepo_kit."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sepo_kit"
