"""The card of an exported model: what it is, how it is asked, what it does, how it was made, what it is not for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sepo_kit.engine.policy import first_information
from sepo_kit.evaluation.evaluate import METRICS, Report, evaluate
from sepo_kit.evaluation.results import HEADINGS
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.models import SHIPPED
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import LoadedModel, language_model, origin
from sepo_kit.runs import read_manifest, replacing

CARD = "README.md"  # where hubs look for it
TEMPLATE = Path(__file__).with_name("model_card.md")
WORST_HOW = {
    "exact": ", computed",
    "bounds": ": it lies in the interval",
    "found": "; the value is what the best adversary that was found gains, so it may be more",
    "unknown": "; it is not known here",
}


def write_card(
    file: Path, loaded: LoadedModel, form: str, name: str, episodes: int = 20, seed: int = 10_000
) -> None:
    """Write the card of ``loaded``, exported in ``form`` and called ``name``; parameters as in ``export``."""
    with replacing(file) as temporary:
        temporary.write_text(card(loaded, form, name, episodes, seed), encoding="utf-8")


def card(loaded: LoadedModel, form: str, name: str, episodes: int = 20, seed: int = 10_000) -> str:
    """The card as Markdown, its front matter as hubs read it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "quoted": quoted}
    base = origin(loaded)[0]
    told = {"form": form, "name": name, "base": base_name(loaded), "hub_base": _hub_id(base)}
    told["identity"] = _identity(base)
    found = _about_the_run(loaded, episodes, seed) if loaded.chain else {"game": None, "prompt": None}
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**told, **found)
    return text.rstrip() + "\n"


def _about_the_run(loaded: LoadedModel, episodes: int, seed: int) -> dict[str, Any]:
    manifest = read_manifest(loaded.source)
    game = get_game(manifest["request"]["game"])
    agent = language_model(loaded, game)
    seen = first_information(game)
    report = measured(agent, game, episodes, seed) if episodes else None
    how = report.worst_case.how if report else "unknown"
    return {
        "game": game,
        "prompt": agent.prompts.messages(seen),
        "legal": seen.legal_actions,
        "style": agent.style,
        "temperature": agent.temperature,
        "max_new_tokens": agent.max_new_tokens,
        "metrics": _rows(report) if report else [],
        "exact": report is not None and not report.episodes,
        "episodes": episodes,
        "seed": seed,
        "worst_how": WORST_HOW[how],
        "worst_limit": "" if how == "exact" else ", as far as it is known",
        "weights": game.spec.eval_weights,
        "pools": game.spec.pools,
        "chain": loaded.chain[1:],
        "settings": json.dumps(manifest["request"]["settings"], indent=2, sort_keys=True),
        "versions": manifest.get("versions", {}),
    }


def measured(agent: LanguageModel, game: Game, episodes: int, seed: int) -> Report:
    """The numbers of a card: exact where the game has few information states and the agent states distributions."""
    if game.spec.few_states and agent.style == "direct":
        return evaluate(agent, game, exact=True, worst_case="quick")
    return evaluate(agent, game, episodes, seed, worst_case="search")


def _rows(report: Report) -> list[dict[str, Any]]:
    rows = report.to_frame().set_index("metric").loc[list(METRICS)].reset_index()
    return [
        {**row, "name": HEADINGS.get(row["metric"], row["metric"]), "interval": _interval(row)}
        for row in rows.to_dict("records")
    ]


def _interval(row: dict[str, Any]) -> str:
    """In words; a dash of a number that is exact or not defined."""
    low, high = number(row["low"]), number(row["high"])
    return "-" if low == high else f"{low} to {high}"


def base_name(loaded: LoadedModel) -> str:
    """What the model began with, by name; of a folder its last part, since no path of this machine is to travel."""
    model = origin(loaded)[0]["model"]
    return Path(model).name if Path(model).is_dir() else model


def _hub_id(base: dict[str, Any]) -> str | None:
    """The base model as a hub knows it; None of the kit's own models and of folders."""
    model = base["model"]
    return None if model in SHIPPED or Path(model).is_dir() else model


def _identity(base: dict[str, Any]) -> str:
    return "".join(f" ({what} {base[what]})" for what in ("sha256", "revision") if base.get(what))


def number(value: float | None) -> str:
    """
    >>> number(0.12345), number(None), number(-0.0001)
    ('0.123', '-', '0.000')
    """
    return "-" if value is None or math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def quoted(text: str) -> str:
    """
    >>> print(quoted("one\\n\\ntwo"))
    > one
    >
    > two
    """
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
