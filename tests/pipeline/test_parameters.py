"""Parameters on the command line: as the notebook declares them, whatever YAML 1.1 would make of them."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from papermill.cli import NoDatesSafeLoader

from sepo_kit.pipeline.notebooks import find_notebook, read_parameters
from sepo_kit.pipeline.parameters import as_yaml, parameter, split_pairs

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab=", max_size=3), inner),
)  # fmt: skip
TRAPS = ["no", "yes", "on", "1e-1", "1_000", "012", "0x1f", "1:30", "2026-01-01", "~", "null", "=", "<<", "a: b", "# c",
         "'", '"', "\\", "\n", "\t", "{", "*a", "&a", "!a", "%", "@", "`", "\u2028", "\U0001f600", "é", ""]  # fmt: skip


@given(VALUES)
def test_papermill_reads_what_is_written(value):
    assert yaml.load(as_yaml({"x": value}), Loader=NoDatesSafeLoader) == {"x": value}


@pytest.mark.parametrize("text", TRAPS)
def test_texts_stay_texts(text):
    assert parameter("runs", text, "str") == text
    assert yaml.load(as_yaml({"x": text}), Loader=NoDatesSafeLoader) == {"x": text}


@pytest.mark.parametrize(
    ("text", "declared", "default", "value"),
    [
        ("1e-1", "float", "None", 0.1), ("0.00001", "float", "None", 1e-5), ("None", "float", "None", None),
        ("3", "int", "0", 3), ("True", "bool", "False", True), ("false", "bool", "True", False),
        ("[0, 1]", "list", "[]", [0, 1]), ("0,1", "list", "[]", [0, 1]),
        ("kuhn, ipd", "list", "[]", ["kuhn", "ipd"]), ("['ipd']", "list", "[]", ["ipd"]),
        ("ipd", "list", "[]", ["ipd"]), ("2", "list", "[0]", [2]),
        ("[kuhn, no]", "list", "[]", ["kuhn", "no"]), ("[a, 1e-1]", "list", "[]", ["a", 0.1]),
        ("{exploit: 0.1}", "dict", "{}", {"exploit": 0.1}), ('{"exploit": 0.1}', "dict", "{}", {"exploit": 0.1}),
    ],
)  # fmt: skip
def test_values_are_read_as_declared(text, declared, default, value):
    found = parameter("x", text, declared, default)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "declared", "default", "said"),
    [
        ("1.5", "int", "0", "x must be a whole number, got '1.5'"), ("None", "int", "0", "a whole number"),
        ("high", "float", "None", "x must be a number, or None, got 'high'"), ("1", "bool", "False", "True or False"),
        ("[0", "list", "[]", "x must be a list"), ("3", "dict", "{}", "x must be an object"),
        ("(" * 300, "list", "[]", "x must be a list"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(text, declared, default, said):
    with pytest.raises(ValueError) as error:
        parameter("x", text, declared, default)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["06", "06_evaluation", "06_evaluation.ipynb", "notebooks/06_evaluation.ipynb"]
)
def test_short_names_of_notebooks(name):
    assert find_notebook(name) == "06_evaluation"


@pytest.mark.parametrize(
    ("name", "said"), [("0", "several notebooks begin with '0'"), ("x", "unknown notebook 'x'")]
)
def test_names_that_are_none(name, said):
    with pytest.raises(ValueError, match=rf"{said}; known: 01_games, "):
        find_notebook(name)


def test_notebooks_declare_what_training_needs():
    given = {"seeds": "[1, 2]", "steps": "5", "mode": "shared", "exploiters": "worst-case", "learning_rate": "1e-4",
             "limits": '{"exploit": 0.1}', "exploit_weight": "None", "runs": "2026"}  # fmt: skip
    assert read_parameters("05_sepo_training", given) == {
        "seeds": [1, 2], "steps": 5, "mode": "shared", "exploiters": "worst-case", "learning_rate": 1e-4,
        "limits": {"exploit": 0.1}, "exploit_weight": None, "runs": "2026",
    }  # fmt: skip
    assert read_parameters("04_sft_warm_start", {"seeds": "3"}) == {"seeds": [3]}
    with pytest.raises(ValueError, match="has no parameter 'sed'; it has: profile, model"):
        read_parameters("05_sepo_training", {"sed": "1"})


def test_pairs():
    assert split_pairs([["game=kuhn"], ["x=-1e-3"], ["runs", "a=b"], ["e="]]) == {
        "game": "kuhn", "x": "-1e-3", "runs": "a=b", "e": "",
    }  # fmt: skip
    for wrong in (["game"], ["a", "b", "c"], ["a=b", "c"]):
        with pytest.raises(ValueError, match="-p takes NAME VALUE or NAME=VALUE, got "):
            split_pairs([wrong])
    with pytest.raises(
        ValueError, match="-p game is given twice, as 'kuhn' and as 'ipd'; leave one of them out"
    ):
        split_pairs([["game=kuhn"], ["game", "ipd"]])
