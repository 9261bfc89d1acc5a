"""Where models that were built are kept."""

from __future__ import annotations

from pathlib import Path

from sepo_kit.models import cache


def test_the_cache_is_where_it_was_told_to_be(monkeypatch, tmp_path, cache_folder):
    assert cache.cache_folder() == cache_folder
    monkeypatch.delenv("SEPO_KIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "sepo_kit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "sepo_kit"
