"""All published pictures and tables anew, from ``data/`` and from the data beside each picture, without a training.

A picture is drawn from the table that its JSON file names, so that it follows the table. Some want more than a table
holds, and are drawn from their own data: curves of trainings, matches move by move, what joins two profiles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sepo_kit import exact
from sepo_kit.engine.policy import Policy, TabularPolicy, scripted
from sepo_kit.evaluation import claims, paper, published_pools, self_play, worst_cases
from sepo_kit.evaluation.evidence import RESULTS, read_evidence, result_files
from sepo_kit.evaluation.policies import policies_of
from sepo_kit.evaluation.results import summary, table
from sepo_kit.evaluation.verdicts import markdown
from sepo_kit.figures import look, play, results, rivals, training, wordings, worst_case
from sepo_kit.games import GAMES
from sepo_kit.runs import RunError, read_json, replacing
from sepo_kit.runs.project import PROJECT

FIGURES = PROJECT / "figures"
TABLES = PROJECT / "build" / "tables.md"
Drawn = tuple[Figure, pd.DataFrame]


@dataclass(frozen=True)
class Source:
    """What a picture is drawn from: its ``name``, the folder of tables where one is known, its table's JSON file, and
    its own data."""

    name: str
    results: Path | None
    told: Path | None
    own: Path

    @property
    def profile(self) -> str:
        """The profile whose table it is."""
        return self.told.stem if self.told else "quick"

    def read(self, name: str) -> pd.DataFrame:
        """A table of the folder by its file's name."""
        elsewhere = "name the folder that holds it: --results FOLDER"
        if self.results is None:
            raise RunError(
                f"{self.own.with_suffix('.json')} names no table, and {name} is needed; {elsewhere}"
            )
        path = self.results / name
        if not path.exists():
            raise RunError(
                f"{path} is missing, which {self.name} is drawn from; {paper.put_back(path) or elsewhere}"
            )
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)

    @property
    def means(self) -> pd.DataFrame:
        """Its table, means over seeds."""
        return summary(self.read(f"{self.profile}.csv"))

    @property
    def data(self) -> pd.DataFrame:
        """The data beside it."""
        return pd.read_csv(self.own)

    def policies(self) -> dict[tuple, TabularPolicy]:
        """The stored policies of Kuhn poker beside its table."""
        return policies_of(self.read(f"{self.profile}-policies.parquet"), "kuhn")


# --- one function a picture -----------------------------------------------------------------------


def _terms(source: Source, model: str, game: str) -> Drawn:
    means = source.means
    model = next(m for m in means["model"].unique() if m.replace("/", "--") == model)
    return results.stage_terms(means, model, game), means[(means["model"] == model) & (means["game"] == game)]


def _worst_case(source: Source) -> Drawn:
    means = source.means
    return results.pool_and_worst_case(means), results.worst_cases(means)


def _safety_change(source: Source) -> Drawn:
    means = source.means
    return results.safety_change(means), results.safety_changes(means)


def _beside_paper(source: Source) -> Drawn:
    change, ours = paper.changes_at_both_weights(), results.safety_changes(source.means)
    both = pd.concat([change.assign(source="P1"), ours.assign(source="this kit")])
    return results.safety_change_beside_paper(change, ours), both


def _training(source: Source, model: str, game: str, stage: str) -> Drawn:
    stage, model = stage.lstrip("-") or "sepo", model.replace("--", "/")
    return training.training_curves(source.data, game, stage=stage, model=model), source.data


def _kuhn_policies(source: Source) -> Drawn:
    chips = worst_cases.chips(kuhn_agents(source.policies()))
    return play.kuhn_policies(chips), chips.reset_index(names="agent")


def _kuhn_frequencies(source: Source) -> Drawn:
    frequencies = paper.frequencies_beside(kuhn_agents(source.policies()))
    return play.kuhn_frequencies(frequencies), frequencies.reset_index(names="agent")


def kuhn_agents(policies: Mapping[tuple, TabularPolicy]) -> dict[str, Policy]:
    """The equilibrium ``nash`` and the agents of ``policies.policies_of``, by name."""
    return {"nash": scripted("kuhn", "nash"), **{policy.name: policy for policy in policies.values()}}


def _study(source: Source, study: str, agent: str, game: str) -> Drawn:
    logs = source.read(f"{study}-training-{agent}.parquet")
    return rivals.STUDIES[study](logs, game, agent), logs[logs["game"] == game]


def _self_play(source: Source, profile: str) -> Drawn:
    twins = source.read(f"self-play-{profile}.csv")
    return worst_case.self_play(twins), twins


def _market(source: Source, profile: str) -> Drawn:
    twins = source.read(f"self-play-{profile}.csv")
    return worst_case.market(twins, self_play.markets()), twins[twins["game"] == "auction"]


def _wordings(source: Source, model: str, game: str, profile: str) -> Drawn:
    told = source.read(f"wordings-{profile}.csv").astype({"seed": "Int64"})
    model = next(m for m in told["model"].unique() if m.replace("/", "--") == model)
    part = told[(told["model"] == model) & (told["game"] == game)]
    return wordings.in_other_words(told, model, game), part


def _pool_and_worst_case(source: Source, profile: str) -> Drawn:
    return results.pool_and_worst_case(source.data), source.data


def _payoff_and_worst_case(source: Source, game: str, profile: str) -> Drawn:
    family = worst_cases.equilibria() if game == "kuhn" else None
    return worst_case.payoff_and_worst_case(source.data, game, family), source.data


def _beside_equilibria(source: Source, profile: str) -> Drawn:
    policies = source.policies()
    kinds = {policy.name: stage for (_, stage, _), policy in policies.items()}
    chips = worst_cases.chips({policy.name: policy for policy in policies.values()})
    figure = worst_case.beside_equilibria(chips, worst_cases.equilibrium_chips(), kinds)
    return figure, chips.reset_index(names="agent")


def _adversary(source: Source, profile: str) -> Drawn:
    agent = next(policy for (_, stage, _), policy in source.policies().items() if stage == "sepo")
    gain = exact.worst_case("kuhn", agent).advantage
    return worst_case.adversarys_lead(source.data, "kuhn", gain), source.data


GAME = f"({'|'.join(map(re.escape, GAMES))})"
DRAWN_BY: tuple[tuple[str, Callable[..., Drawn]], ...] = (
    (rf"terms-(.+)-{GAME}", _terms),
    ("worst-case", _worst_case),
    ("safety-change", _safety_change),
    ("safety-change-paper", _beside_paper),
    (rf"training-(.+?)-{GAME}(|-worst-case)", _training),
    ("kuhn-policies", _kuhn_policies),
    ("kuhn-frequencies-paper", _kuhn_frequencies),
    (rf"({'|'.join(rivals.STUDIES)})-(.+)-{GAME}", _study),
    ("self-play-(.+)", _self_play),
    ("market-(.+)", _market),
    (rf"wordings-(.+)-{GAME}-(.+)", _wordings),
    ("pool-and-worst-case-(.+)", _pool_and_worst_case),
    (rf"payoff-and-worst-case-{GAME}-(.+)", _payoff_and_worst_case),
    ("beside-equilibria-kuhn-(.+)", _beside_equilibria),
    ("adversary-kuhn-(.+)", _adversary),
)

# --- all of them ----------------------------------------------------------------------------------


def published(folder: Path | str = FIGURES, names: Sequence[str] = ()) -> list[str]:
    """The pictures in ``folder``, by name; with wildcards in ``names`` only those.

    Raises
    ------
    RunError
        There are none.
    """
    known = sorted(path.stem for path in Path(folder).glob("*.csv"))
    found = [name for name in known if not names or any(fnmatch(name, wanted) for wanted in names)]
    if not found:
        there = ", ".join(known) or "none, they are drawn by notebook 08"
        raise RunError(f"no picture {' '.join(names)} in {folder}; there are: {there}")
    return found


def drawn(
    name: str, folder: Path | str = FIGURES, tables: Path | str | None = None
) -> tuple[Figure, pd.DataFrame, Path | None]:
    """A picture of ``folder`` anew: the figure, its data and the JSON file of the table it was drawn from.

    ``tables``: the folder of that table; None: where the picture's JSON file says, of published ones ``data/results``.

    Raises
    ------
    RunError
        What it is drawn from is missing, or nobody knows how it is drawn.
    """
    folder = Path(folder)
    said = read_json(folder / f"{name}.json", dict).get("table")
    # Seen from the folder, as ``look.save`` wrote it.
    told = Path(os.path.normpath(folder / said)) if isinstance(said, str) else None
    if tables is not None:
        results = Path(tables)
        told = results / told.name if told else None
    elif told:
        results = told.parent
    else:
        results = RESULTS if folder.resolve() == FIGURES.resolve() else None
    source = Source(name, results, told, folder / f"{name}.csv")
    for pattern, draw in DRAWN_BY:
        if match := re.fullmatch(pattern, name):
            return (*draw(source, *match.groups()), told)
    raise RunError(f"nothing says how {name} is drawn; a picture of your own is drawn by its notebook")


def redraw(
    names: Sequence[str] = (),
    folder: Path | str = FIGURES,
    tables: Path | str | None = None,
    output: Path | str | None = None,
) -> Iterator[Path]:
    """Draw the pictures of ``folder`` anew into ``output`` (default: where they are); their paths, one by one.
    ``tables`` as in ``drawn``."""
    look.style()
    for name in published(folder, names):
        figure, data, told = drawn(name, folder, tables)
        yield look.save(figure, data, Path(output or folder), name, told)
        plt.close(figure)


def write_tables(path: Path | str = TABLES, tables: Path | str = RESULTS) -> Path:
    """Write the tables of results, the paper's claims and what there was to win as one page of Markdown; its path."""
    evidence, tables = read_evidence(tables), Path(tables)
    parts = {f"{file.name}": table(pd.read_csv(file)) for file in result_files(tables)}
    parts |= {
        "The paper, claim by claim": claims.to_read(claims.judge(evidence)),
        "What there was to win": claims.share_won(evidence),
    }
    if len(evidence.reference):
        parts["Ours and the published pool"] = published_pools.effect_of_pools(evidence.reference)
    page = "\n\n".join(f"## {title}\n\n{markdown(part)}" for title, part in parts.items())
    with replacing(path) as temporary:
        temporary.write_text(page + "\n", encoding="utf-8")
    return Path(path)
