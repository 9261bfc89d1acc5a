"""Every result that the README and the pages print is in a file, rounded as it is printed; a wrong digit fails."""

from __future__ import annotations

import re

import nbformat
import pandas as pd
import pytest
import stated
from stated import CONSTANTS, EVERYWHERE, NO_RESULTS, ROOT, STATED, mean, seeds, table, where

import sepo_kit as sk
from sepo_kit.evaluation import archive
from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.pipeline.notebooks import NOTEBOOKS

DOCS = sorted(path for path in (ROOT / "docs").rglob("*.md") if "games" not in path.parts)
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in DOCS)]
NUMBER = r"(?<![\w.,/−-])[−-]?\d[\d,]*(?:\.\d+)?(?![\w/]|\.\d)"
PRINTED = r"([−-]?\d[\d,]*(?:\.\d+)?)"
# Columns of the README's tables of agents, as the files call them.
METRICS = {
    "payoff": "payoff", "exploit": "exploit", "pool exploit": "exploit", "worst case": "worst_case",
    "collusion": "collusion", "externality": "externality", "Safety": "safety", "guaranteed": "guaranteed",
    "guaranteed Safety": "guaranteed", "NRA": "nra", "Robust": "robust",
}  # fmt: skip


def prose(page: str) -> str:
    """A page without its programs, which run in tests of their own, pictures and addresses; one space between words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for line, _ in rows_of_agents(text):  # held to their file cell by cell
        text = text.replace(line, "|")
    text = re.sub(r"^(```|~~~|:::).*?^\1$", " ", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", "]", text)
    text = re.sub(
        r"^(\s*)(?:\d+\.|#+ \d+\.) ", r"\1", text, flags=re.MULTILINE
    )  # numbered lists and headings
    return re.sub(r"\s+", " ", text)


def value(printed: str) -> tuple[float, float]:
    """A number as printed, and half a unit of its last digit."""
    text = printed.replace(",", "").replace("−", "-")
    return float(text), 0.5 * 10.0 ** -len(text.partition(".")[2])


def wrong_numbers(text: str, page: str) -> list[str]:
    """What is wrong with the sentences of ``page`` that state results, in words."""
    found = []
    for sentence, numbers in STATED.get(page, []):
        pattern = re.escape(sentence).replace(r"\#", PRINTED)
        match = re.search(pattern, text)
        if match is None:
            found.append(f"{page} does not say any more: {sentence}")
            continue
        for printed, known in zip(match.groups(), numbers(), strict=True):
            said, slack = value(printed)
            if abs(said - known) > slack + 1e-9:
                found.append(f"{page} says {printed} where the file has {known:.6g}: {sentence}")
    return found


def rows_of_agents(text: str) -> list[tuple[str, dict[str, str]]]:
    """The lines of the tables of agents, and their cells by column."""
    rows, columns = [], []
    for line in text.splitlines():
        cells = [cell.strip().replace("*", "") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif cells[0] in ("agent", "model") and "payoff" in cells:
            columns = cells
        elif columns and not set(line) <= set("|-: "):
            rows.append((line, dict(zip(columns, cells, strict=True))))
    return rows


def agents(text: str) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The rows of the tables of agents: the cells by column, and the results of that agent."""
    stages = {name: key for key, name in STAGE_NAMES.items()}
    found = []
    for _, row in rows_of_agents(text):
        model, stage = row.get("agent", f"{row.get('model')}, {row.get('stage')}").split(", ")
        who = {"model": model.lower(), "game": row.get("game", "kuhn"), "stage": stages[stage]}
        found.append((row, where(table("worst-case"), **who)))
    return found


def wrong_agents(text: str) -> list[str]:
    """What is wrong in the tables of agents, in words."""
    found = []
    for row, results in agents(text):
        who = ", ".join(row[name] for name in ("agent", "model", "game", "stage") if name in row)
        if "seeds" in row and int(row["seeds"]) != max(1, results["seed"].nunique()):
            found.append(f"{who}: not {row['seeds']} seeds")
        for column, metric in METRICS.items():
            if column not in row:
                continue
            known = where(results, metric=metric)["value"].mean()
            printed = row[column].lstrip("≥≤ ")
            said, slack = value(printed) if printed != "-" else (float("nan"), 0.0)
            if not (pd.isna(said) and pd.isna(known)) and not abs(said - known) <= slack + 1e-9:
                found.append(f"{who}: {column} is {printed} where the file has {known:.6g}")
            mark = {"worst case": "≥ ", "guaranteed": "≤ "}.get(column, "") if is_bound(results) else ""
            if row[column] != mark + printed:
                found.append(
                    f"{who}: {column} is {row[column]}, which is {'a bound' if mark else 'no bound'}"
                )
    return found


def is_bound(results: pd.DataFrame) -> bool:
    """Whether the worst case of some seed is known from below only."""
    worst = where(results, metric="worst_case")
    return bool((worst["high"].isna() | (worst["high"] > worst["value"])).any())


def unexplained(text: str, page: str) -> list[str]:
    """Numbers of a page that nothing explains: those with decimals, and whole ones from 10 on."""
    if page in NO_RESULTS:
        return []
    for sentence, _ in STATED.get(page, []):
        text = re.sub(re.escape(sentence).replace(r"\#", PRINTED), " ", text)
    for pattern in (*CONSTANTS.get(page, []), *EVERYWHERE):
        text = re.sub(pattern, " ", text)
    text = re.sub(r"`[^`]*`", " ", text)  # code
    found = []
    for match in re.finditer(NUMBER, text):
        said, slack = value(match.group())
        if slack < 0.5 or abs(said) >= 10:
            around = text[max(0, match.start() - 40) : match.end() + 30]
            found.append(f"{page}: no file is named for {match.group()} in ...{around}...")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_number_that_is_a_result_is_in_a_file(page):
    text = prose(page)
    assert not wrong_numbers(text, page) + unexplained(text, page)


def test_a_bound_that_is_printed_as_exact_is_found_and_so_is_the_reverse():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for was, wrong in (("| ≥ 0.353 |", "| 0.353 |"), ("| 0.013 | 0.000 |", "| ≥ 0.013 | 0.000 |")):
        assert was in text
        assert "bound" in " ".join(wrong_agents(text.replace(was, wrong)))


def test_the_tables_of_agents_are_those_of_their_file():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(agents(text)) == 32 and not wrong_agents(text)


def test_the_match_in_words_is_as_it_was_recorded():
    played = []
    for name in ("base", "sepo-seed-1"):
        episodes = archive.read_episodes(stated.REASONED / "results" / f"{name}.parquet")
        match = archive.read_match(episodes, "exploit", "nash")
        played.append(match[match["reply"] != ""])
    lines = []
    for before, after in zip(*(frame.itertuples() for frame in played), strict=True):
        said = [" / ".join(filter(str.strip, row.reply.split("\n"))) for row in (before, after)]
        acted = [row.action + " (unread)" * bool(row.fallback) for row in (before, after)]
        told = {row.prompt.strip().split("\n")[-1] for row in (before, after)}
        assert len(told) == 1, "the same deals"
        lines.append(f"| {before.round} | {told.pop()} | {said[0]} | {acted[0]} | {said[1]} | {acted[1]} |")
    assert "\n".join(lines) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_bound_is_one():
    assert max(seeds(*stated.KUHN, "worst-case", "worst_case")) < 0.03


def test_one_wrong_digit_is_found():
    page = "README.md"
    text = prose(page)
    told = re.search(re.escape("gives its pool ") + PRINTED, text)
    assert told and not wrong_numbers(text, page)
    changed = text[: told.end() - 1] + "9" + text[told.end() :]
    assert "where the file has" in wrong_numbers(changed, page)[0]
    assert "does not say any more" in wrong_numbers(text.replace("gives its pool", "hands it"), page)[0]
    assert "0.123" in unexplained(text + " It earns 0.123 chips.", page)[0]
    cell = f"{mean(*stated.V2, 'sepo', 'payoff'):.3f}"
    lines = (ROOT / page).read_text(encoding="utf-8")
    assert cell in lines and "payoff is" in wrong_agents(lines.replace(cell, "8.919"))[0]


def test_notebook_07_counts_the_runs_that_end_at_always_defecting():
    (cell,) = [
        c
        for c in nbformat.read(NOTEBOOKS / "07_credit_ablation.ipynb", as_version=4).cells
        if c.id == "07-10"
    ]
    told = re.search(r"pico in (\d+) of (\d+) runs of any mode", " ".join(cell.source.split()))
    logs = pd.read_parquet(ROOT / "data" / "results" / "credit-training-pico.parquet")
    logs = logs[(logs["game"] == "ipd") & (logs["horizon"] == "round")]
    ends = logs[logs["step"] == logs["step"].max()]
    always = ends["collusion"] > 0.9  # of the rounds with the trusting partner
    assert (int(told[1]), int(told[2])) == (always.sum(), len(ends))
    others = ends[~always]
    kinds = others.groupby(["mode", "common_random_numbers"]).size().to_dict()
    assert kinds == {("credited", True): 1, ("grouped", False): 5}
    quarter = others[others["mode"] == "grouped"]["collusion"]
    assert quarter.between(0.23, 0.27).all() and others["collusion"].min() == pytest.approx(1 / 8)


def test_the_page_on_evaluation_says_how_many_replies_the_episodes_are():
    said = re.search(
        r"100 episodes per opponent are more replies, some ([\d,]+) to ([\d,]+),",
        prose("docs/howto/evaluate.md"),
    )
    played = [
        sum(len(e.decisions) for e in sk.evaluate(sk.scripted("kuhn", name), "kuhn", episodes=100).episodes)
        for name in ("always-bet", "uniform", "tight-passive")
    ]
    assert [round(n, -3) for n in (min(played), max(played))] == [value(text)[0] for text in said.groups()]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_typed_into_a_shell_has_its_brackets_in_quotes(page):
    """Elsewhere zsh takes them for a pattern, and stops."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not re.findall(r"-p \w+[ =]\[[^\n]*", text)
