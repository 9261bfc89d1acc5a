"""What an error says to the person who caused it."""

from __future__ import annotations


def message(error) -> str:
    """The text of an error that ``pytest.raises`` caught, which must be one line."""
    text = str(error.value)
    assert text and "\n" not in text
    return text
