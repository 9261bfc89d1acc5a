"""The site. Sphinx, since it makes the API from docstrings and checks every link; MyST, since the pages are Markdown
that GitHub shows as well; the PyData theme, since it is that of NumPy and pandas and needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "extension")]

import sepo_kit  # noqa: E402

project = "sepo_kit"
author = "sepo_kit authors"
copyright = "sepo_kit authors, MIT"
version = release = sepo_kit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "game_pages",
    "published_tables",
    "command_line",
]
exclude_patterns = ["extension"]
# docs/ is read on GitHub as well: files of the repository are linked by their path there.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

# --- the API --------------------------------------------------------------------------------------

# Slow to import, or brought by an extra; the docstrings are ours.
autodoc_mock_imports = [
    "accelerate",
    "datasets",
    "gymnasium",
    "matplotlib",
    "openai",
    "peft",
    "pettingzoo",
    "pyspiel",
    "safetensors",
    "seaborn",
    "torch",
    "transformers",
    "trl",
    "verifiers",
]
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
# Every name of the kit in a signature must have its place; those of other libraries are not ours to check.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!sepo_kit\b).*")]
# Inner parts that signatures name; nobody makes them by hand.
nitpick_ignore = [
    ("py:class", "sepo_kit.models.constrained.ReplyTree"),
    ("py:class", "sepo_kit.models.asking.Asking"),
]

# --- the look -------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sepo_kit"
html_static_path = ["_static"]
html_css_files = ["games.css"]
html_sidebars = {"reproduction": []}  # room for its table
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
