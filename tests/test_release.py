"""A release says one version everywhere, and what archives read of it is in their form."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import yaml

import sepo_kit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
ZENODO = json.loads((ROOT / ".zenodo.json").read_text())
# What Zenodo's deposit metadata know, of a software record, and what its lists may hold.
KNOWN = {
    "title", "upload_type", "description", "version", "publication_date", "creators", "contributors", "access_right",
    "license", "language", "keywords", "related_identifiers", "notes", "references", "communities", "grants",
}  # fmt: skip
RELATIONS = {
    "cites",
    "references",
    "isSupplementTo",
    "isDerivedFrom",
    "isDocumentedBy",
    "isPartOf",
    "isIdenticalTo",
}


def test_one_version_and_date():
    newest, day = re.search(r"^## \[(\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M).groups()
    versions = [sepo_kit.__version__, PROJECT["version"], CITATION["version"], ZENODO["version"]]
    assert versions == [newest] * 4
    assert [str(CITATION["date-released"]), ZENODO["publication_date"]] == [day, day]


def test_zenodo_takes_its_metadata():
    assert set(ZENODO) <= KNOWN and ZENODO["upload_type"] == "software" and ZENODO["access_right"] == "open"
    assert ZENODO["creators"] == [{"name": author["name"]} for author in CITATION["authors"]]
    assert (
        (ZENODO["title"], ZENODO["license"])
        == (CITATION["title"], CITATION["license"])
        == (ZENODO["title"], PROJECT["license"])
    )
    assert ZENODO["keywords"] == PROJECT["keywords"]
    for related in ZENODO["related_identifiers"]:
        assert (
            set(related) <= {"identifier", "scheme", "relation", "resource_type"}
            and related["relation"] in RELATIONS
        )
    (paper,) = CITATION["references"]
    assert ZENODO["related_identifiers"][0]["identifier"] == paper["identifiers"][0]["value"]


def test_each_release_says_what_it_changes_once():
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.split(r"^## ", text, flags=re.M)[1:]
    assert len(releases) >= 2
    for release in releases:
        heads = re.findall(r"^### (.+)$", release, re.M)
        assert heads and set(heads) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert len(heads) == len(set(heads))
