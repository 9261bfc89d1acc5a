"""The colours of both seats can be read, on every ground that JupyterLab's two themes put a table row on."""

import re

import pytest

from sepo_kit.widgets.markup import STYLE

# The page, and every other row, of JupyterLab's own themes (@jupyterlab/theme-light-extension, -dark-extension).
GROUNDS = {"light": ("#ffffff", "#f5f5f5"), "dark": ("#111111", "#212121")}


def luminance(color):
    """Relative luminance of WCAG 2.2."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, two):
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("seat", ["you", "other"])
@pytest.mark.parametrize("theme", GROUNDS)
def test_both_seats_can_be_read_in_both_themes(seat, theme):
    light, dark = re.findall(rf"--sepo-{seat}: (#[0-9a-f]{{6}})", STYLE)
    color = light if theme == "light" else dark
    assert min(contrast(color, ground) for ground in GROUNDS[theme]) >= 4.5
    assert f".sepo-{seat} {{ color: var(--sepo-{seat}) }}" in STYLE
