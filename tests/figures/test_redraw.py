"""The published pictures can be drawn anew from what is published, and are of its tables."""

from __future__ import annotations

import re
import shutil

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sepo_kit.cli import main
from sepo_kit.evaluation.evidence import RESULTS
from sepo_kit.evaluation.paper import put_back
from sepo_kit.figures import redraw
from sepo_kit.figures.redraw import DRAWN_BY, FIGURES
from sepo_kit.runs import RunError, read_json


def test_somebody_knows_how_each_published_picture_is_drawn():
    """The rule of each picture is one alone, and it has its data and its JSON file beside it."""
    for name in redraw.published():
        rules = [pattern for pattern, _ in DRAWN_BY if re.fullmatch(pattern, name)]
        assert len(rules) == 1, name
        assert (FIGURES / f"{name}.json").exists() and (FIGURES / f"{name}.png").exists()


@pytest.mark.parametrize(
    "name", ["safety-change-paper", "kuhn-policies", "exploiters-tabular-ipd", "market-quick"]
)
def test_what_is_drawn_from_a_table_has_the_numbers_of_the_published_picture(name):
    figure, data, _ = redraw.drawn(name)
    kept = pd.read_csv(FIGURES / f"{name}.csv")
    plt.close(figure)
    pd.testing.assert_frame_equal(
        data.reset_index(drop=True), kept, check_dtype=False, check_names=False, rtol=1e-9, atol=1e-11
    )


def test_a_picture_follows_its_table(tmp_path):
    """Other numbers in the table are other numbers in the picture."""
    for file in FIGURES.glob("safety-change.*"):
        shutil.copy(file, tmp_path)
    shutil.copytree(RESULTS, tmp_path / "results")
    table = pd.read_csv(RESULTS / "quick.csv")
    table.loc[table["metric"] == "safety", "value"] += table["stage"].eq("sepo")
    table.to_csv(tmp_path / "results" / "quick.csv", index=False)
    before = pd.read_csv(tmp_path / "safety-change.csv")
    written = list(redraw.redraw(["safety-change"], tmp_path, tmp_path / "results"))
    assert [path.name for path in written] == ["safety-change.png"] and not plt.get_fignums()
    after = pd.read_csv(tmp_path / "safety-change.csv")
    assert (after["change"] - before["change"]).to_numpy() == pytest.approx(1.0)
    assert (tmp_path / "safety-change.svg").stat().st_size > 1000


def test_pictures_of_ones_own_are_drawn_from_the_tables_they_name(tmp_path, capsys):
    """In place, by the command, and without the numbers of the published table of that name."""
    mine, tables = tmp_path / "figures", tmp_path / "tables"
    for folder in (mine, tables):
        folder.mkdir()
    table = pd.read_csv(RESULTS / "quick.csv")
    table.loc[table["metric"] == "safety", "value"] += table["stage"].eq("sepo")
    table.to_csv(tables / "quick.csv", index=False)
    for suffix in ("csv", "png"):
        shutil.copy(FIGURES / f"safety-change.{suffix}", mine)
    (mine / "safety-change.json").write_text('{"table": "../tables/quick.json"}')
    before = pd.read_csv(mine / "safety-change.csv")
    assert main(["figures", "--figures", str(mine)]) == 0
    assert "written" not in capsys.readouterr().out  # the page of the published tables is not about these
    after = pd.read_csv(mine / "safety-change.csv")
    assert (after["change"] - before["change"]).to_numpy() == pytest.approx(1.0)
    assert read_json(mine / "safety-change.json")["table"] == "../tables/quick.json"


def test_only_what_a_checkout_holds_is_put_back_by_git(tmp_path):
    for name in ("safety-change", "ablations-pico-kuhn"):
        shutil.copy(FIGURES / f"{name}.csv", tmp_path)
    (tmp_path / "safety-change.json").write_text('{"table": "../tables/quick.json"}')
    (tmp_path / "ablations-pico-kuhn.json").write_text("{}")
    with pytest.raises(
        RunError, match=r"tables/quick.csv is missing, .* name the folder that holds it: --results"
    ):
        redraw.drawn("safety-change", tmp_path)
    with pytest.raises(RunError, match=r"ablations-pico-kuhn.json names no table, .*; name the folder"):
        redraw.drawn("ablations-pico-kuhn", tmp_path)
    gone = RESULTS / "gone.csv"
    assert put_back(gone) == f"put it back: git checkout {gone}" and put_back(tmp_path / "gone.csv") == ""


def test_the_command_draws_into_another_folder_and_leaves_the_published_alone(tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in FIGURES.iterdir()}
    assert main(["figures", "training-pico-ipd", "--output", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".csv", ".json"}
    assert "1 pictures drawn into" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in FIGURES.iterdir()} == before


def test_all_tables_are_one_page(tmp_path):
    page = redraw.write_tables(tmp_path / "tables.md").read_text()
    assert (
        "## worst-case.csv" in page and "## The paper, claim by claim" in page and "reference policy" in page
    )
    assert "| pico | kuhn | sepo | 3 | 0.026 |" in page


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(RunError, match=r"no picture worst-\? in .*; there are: ablations"):
        redraw.published(names=["worst-?"])
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "mine.csv")
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(RunError, match="nothing says how mine is drawn"):
        redraw.drawn("mine", tmp_path)
    shutil.copy(FIGURES / "kuhn-policies.json", tmp_path)
    with pytest.raises(
        RunError, match=r"quick-policies.parquet is missing, which kuhn-policies is drawn from"
    ):
        redraw.drawn("kuhn-policies", tmp_path, tmp_path)
