"""Several tables, one JSON file: a run vouches for those that it wrote."""

from __future__ import annotations

import pytest

from sepo_kit.evaluation.sealed_tables import seal_written
from sepo_kit.runs import file_hash, problems, read_json


@pytest.fixture
def told(tmp_path):
    """Two tables and the JSON file of the run that wrote both."""
    for name in ("learned", "self-play"):
        (tmp_path / f"{name}.csv").write_text(f"{name}\n1\n")
    source = tmp_path / "adversaries.json"
    both = [tmp_path / "learned.csv", tmp_path / "self-play.csv"]
    assert seal_written(source, {"asked": {"learner_steps": 200}}, both, both) == []
    return source, both


def test_what_was_not_written_keeps_its_hash_and_what_it_was_made_with(told):
    source, (learned, twins) = told
    for steps in (0, 1):  # however many runs come after
        twins.write_text(f"self-play\n{steps}\n")
        assert seal_written(source, {"asked": {"learner_steps": steps}}, [twins], [learned, twins]) == []
        value = read_json(source)
        assert value["files"] == {file.name: file_hash(file) for file in (learned, twins)}
        assert value["asked"] == {"learner_steps": steps}
        assert value["earlier"] == {"learned.csv": {"asked": {"learner_steps": 200}}}
    seal_written(source, {"asked": {"learner_steps": 5}}, [learned], [learned, twins])
    value = read_json(source)
    assert value["asked"] == {"learner_steps": 5}
    assert value["earlier"] == {"self-play.csv": {"asked": {"learner_steps": 1}}}
    assert not problems(source)


def test_a_damaged_table_is_not_blessed(told):
    source, (learned, twins) = told
    before = file_hash(learned)
    learned.write_text("learned\n2\n")
    (line,) = seal_written(source, {"asked": {}}, [twins], [learned, twins])
    assert line == f"{learned} has changed since it was written"
    assert read_json(source)["files"]["learned.csv"] == before


def test_a_table_of_which_nothing_is_known_is_said_and_not_sealed(told):
    source, both = told
    stranger = source.with_name("wordings.csv")
    stranger.write_text("wordings\n1\n")
    (line,) = seal_written(source, {"asked": {}}, both, [*both, stranger])
    assert line.startswith(f"{stranger} is of another run") and "adversaries.json does not say" in line
    assert stranger.name not in read_json(source)["files"]


def test_a_run_that_wrote_nothing_leaves_it_as_it_is(told):
    source, both = told
    before = source.read_bytes()
    assert seal_written(source, {"asked": {"learner_steps": 0}}, [], both) == []
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["{", '{"asked": {}, "files": {"learned.csv": "0"}, "sha256": "0"}', '{"files": 1}']
)
def test_a_damaged_file_is_no_source_of_hashes(told, text):
    source, (learned, twins) = told
    source.write_text(text)
    lines = seal_written(source, {"asked": {}}, [twins], [learned, twins])
    assert len(lines) == 2 and str(source) in lines[0] and str(learned) in lines[1]
    assert list(read_json(source)["files"]) == ["self-play.csv"] and not problems(source)
