"""The corpus of the supervised warm start: what good and bad players do, and why they say they do it.

One demonstrator plays one episode against one of five opponents; every decision is a record (system, user,
assistant). The reason is the strategy's own ``explain``, so it follows from the state and the action. Who
demonstrates, and how often, stands in the game's own file (``Game.mixture``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.engine.tables import read_table
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import Game, InformationState, Mixture, Strategy
from sepo_kit.runs import replacing

TRAIN_SHARE = 0.8
BLOCK = 256  # episodes played together


class _Demonstrator(StrategyPolicy):
    """A strategy that remembers what it saw, so that prompt and reason can be written down."""

    def choice(self, seen: InformationState, index: int, probability: float) -> Decision:
        self.met[seen.key] = seen
        return super().choice(seen, index, probability)

    def __init__(self, strategy: Strategy) -> None:
        super().__init__(strategy)
        self.met: dict[str, InformationState] = {}


def demonstrations(game: Game | str, records: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Demonstration records of ``game``, the same for the same seed.

    Returns
    -------
    DataFrame
        One row per decision, ``records`` rows (default: the mixture's): game, episode, demonstrator,
        opponent, round, move, information, system_direct, system_reasoned, user, reason, action, split. Whole
        episodes are in "train" (about 80 %) or "test", never both.

    Raises
    ------
    ValueError
        The game has no mixture, or ``records`` is not positive.
    """
    game = get_game(game)
    mixture = game.mixture
    if mixture is None:
        raise ValueError(
            f"no demonstrations for {game.spec.id!r}; games with demonstrations: {', '.join(demonstrated())}; "
            f"give {type(game).__name__} a mixture, a Mixture(...), which says who demonstrates"
        )
    records = mixture.records if records is None else records
    if records < 1:
        raise ValueError(f"records must be >= 1, got {records}")
    rng = np.random.default_rng([seed, len(mixture.demonstrators)])
    weights = np.array([weight for _, weight in mixture.demonstrators])
    rows: list[dict] = []
    episode = 0
    while len(rows) < records:
        chosen = rng.choice(len(weights), size=BLOCK, p=weights / weights.sum())
        rows += _block(game, mixture, chosen, episode, seed)
        episode += BLOCK
    frame = pd.DataFrame(rows[:records])
    test = np.random.default_rng([seed, 1]).random(episode) >= TRAIN_SHARE
    frame["split"] = np.where(test[frame["episode"]], "test", "train")
    frame["system_direct"] = game.system_prompt("direct")
    frame["system_reasoned"] = game.system_prompt("reasoned")
    return frame


def _block(game: Game, mixture: Mixture, chosen: np.ndarray, first: int, seed: int) -> list[dict]:
    """Play one block of episodes, grouped by demonstrator; rows in the order of the episodes."""
    rows: list[tuple[int, list[dict]]] = []
    for number, (strategy, _) in enumerate(mixture.demonstrators):
        mine = np.flatnonzero(chosen == number)
        todo = [
            Match("none", mixture.opponents[(first + i) % len(mixture.opponents)], int(first + i))
            for i in mine
        ]
        agent = _Demonstrator(strategy)
        episodes = play_matches(game, agent, todo, seed, step=first, common_random_numbers=False)
        for match, played in zip(todo, episodes, strict=True):
            rows.append((match.index, [_record(game, agent, played, d) for d in played.decisions]))
    return [record for _, records in sorted(rows, key=lambda pair: pair[0]) for record in records]


def _record(game: Game, agent: _Demonstrator, episode, decision) -> dict:
    seen = agent.met[decision.information]
    return {
        "game": game.spec.id,
        "episode": episode.index,
        "demonstrator": agent.name,
        "opponent": episode.opponent,
        "round": decision.round,
        "move": decision.move,
        "information": decision.information,
        "user": game.render(seen),
        "reason": agent.strategy.explain(seen, decision.action),
        "action": decision.action,
    }


def demonstrated() -> tuple[str, ...]:
    """The ids of the games that have demonstrations."""
    return tuple(name for name, game in GAMES.items() if game.mixture is not None)


def write_corpus(folder: Path | str, games: Sequence[str] = (), seed: int = 0) -> list[Path]:
    """Write one Parquet file per game into ``folder`` (default: of every game that has demonstrations), and
    ``counts.csv`` with the records per demonstrator, opponent and split, of the games that were there before as well:
    the same bytes for the same seed and library versions. Returns the Parquet files."""
    paths = []
    for game in tqdm(games or demonstrated(), desc="demonstrations", leave=False):
        frame = demonstrations(game, seed=seed)
        path = Path(folder) / f"{game}.parquet"
        with replacing(path) as temporary:
            frame.to_parquet(temporary, index=False, compression="zstd")
        paths.append(path)
    there = [path for game in demonstrated() if (path := Path(folder) / f"{game}.parquet").exists()]
    columns = ["game", "demonstrator", "opponent", "split"]
    counts = [read_table(path, columns)[columns].groupby(columns).size().rename("records") for path in there]
    with replacing(Path(folder) / "counts.csv") as temporary:
        pd.concat(counts).to_csv(temporary)
    return paths


def conversations(frame: pd.DataFrame, style: str) -> list[dict]:
    """Records as TRL's prompt-completion conversations in a reply style."""
    replies: Sequence[str] = (
        frame["action"] if style == "direct" else frame["reason"] + "\n" + frame["action"]
    )
    return [
        {
            "prompt": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "completion": [{"role": "assistant", "content": reply}],
        }
        for system, user, reply in zip(frame[f"system_{style}"], frame["user"], replies, strict=True)
    ]
