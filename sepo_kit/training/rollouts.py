"""One training step as GRPO rows: play all episodes in lockstep, credit every decision, lay the decisions out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from trl import GRPOTrainer

from sepo_kit.adversaries.exploiters import Exploiters
from sepo_kit.adversaries.opponents import require_known, resolve_all
from sepo_kit.adversaries.worst_case import glimpse, met_anyway
from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.reuse import Reusing
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.games.base import Game, Weights
from sepo_kit.models.dropout import evaluating, has_dropout
from sepo_kit.models.language_model import Branching, LanguageModel
from sepo_kit.objective.signal import idle_groups, silent_penalties, spread
from sepo_kit.objective.step import TrainingStep
from sepo_kit.objective.terms import TERMS, guaranteed, objective, row_of
from sepo_kit.training.memory import until_it_fits
from sepo_kit.training.processes import collected, dealt, from_all, share_of_work, world
from sepo_kit.training.settings import SEPOSettings
from sepo_kit.training.styles import STYLES, direct_passes

IDLE = "idle"
GLIMPSE_EVERY = 10  # steps, at least
KEPT = 20_000  # contexts whose reference is kept, about 100 MB


@dataclass
class _Laid:
    """A row that TRL is given, and the advantages of the decisions it stands for."""

    number: int
    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    advantages: list[float] = field(default_factory=list)


class Rollouts:
    """Plays one training step and lays its decisions out as GRPO rows.

    Row (group g, slot k, rollout i) is number (g * slots + k) * n + i: the n rows of one TRL group are the
    decisions of n rollouts at the same point of the same match. Only groups the credit mode trains on have rows.
    Where one forward pass takes all of them (``folds``), rows of the same prompt, the same reply and advantages of the
    same sign are laid out as one, by the number of the first: its mask says how many they are and its advantage is
    their mean, so that loss, gradient, KL penalty and clipping are what they were. Else a row is laid out for every
    slot, also for those that no episode reached. Of several processes each gets an equal run of what is laid out, and
    the matches are dealt out one by one.

    Raises
    ------
    ValueError
        The processes cannot share the rows evenly, or no opponent can be called so.
    """

    def __init__(
        self,
        game: Game,
        player: LanguageModel,
        settings: SEPOSettings,
        seed: int,
        opponents: Mapping[str, Policy] | None = None,
    ) -> None:
        self.game = game
        self.player = player
        self.settings = settings
        self.seed = seed
        self.step = TrainingStep(game, settings)
        self.exploiters = Exploiters(game, settings, seed=seed)
        self.given = dict(opponents or {})  # by name, beside those of the grammar
        self.others = [n for n in self.step.opponents if n not in {*settings.best_responses, *self.given}]
        for name in self.others:
            require_known(game, name)
        self.seated: dict[str, Policy] | None = None  # opponents that stay as they are, once they are loaded
        self.style = STYLES[settings.style](player, game, settings)
        self.slots = game.spec.rounds * game.spec.moves_per_round
        only_train = settings.mode in ("shared", "auxiliary")
        trained = [m for m in self.step.matches if m.owner is None and (m.pool == "train" or not only_train)]
        self.groups = {key: n for n, key in enumerate(dict.fromkeys(map(_group, trained)))}
        self.reference: dict[Branching, torch.Tensor] = {}  # what the reference says, as far as asked
        # What play asked the policy, differentiable, where the loss of the step can go on from it.
        self.answers: dict[Branching, torch.Tensor] | None = None
        self.number, self.of = share_of_work()
        if self.rows % self.of:
            raise ValueError(
                f"{self.of} processes cannot share the {self.rows} rows of a step evenly; use a number of processes "
                f"that divides {self.rows}, or other rollouts or groups"
            )
        self.advantages = np.zeros(0)  # of the rows that are laid out for this process
        self.numbers: list[int] = []  # and their numbers
        self.pieces = 1  # in which the episodes are played
        self._warned: set[str] = set()

    @property
    def label(self) -> str:
        """What the training is called where it speaks to people."""
        return f"SEPO {self.game.spec.id}"

    @property
    def rows(self) -> int:
        """GRPO rows of one step where each decision has its own: what the loss is divided by."""
        return len(self.groups) * self.slots * self.settings.rollouts

    @cached_property
    def folds(self) -> bool:
        """Whether rows that are alike are laid out as one."""
        rows = self.rows // self.of
        return self.style.micro_rows(rows) == rows

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, list]:
        """TRL's ``rollout_func``."""
        number = trainer.state.global_step // self.settings.updates
        # Anew after every checkpoint: a resumed run must compute what the undisturbed one does, in the same batches.
        if number % self.settings.save_every == 0 or len(self.reference) > KEPT:
            self.reference.clear()
        with evaluating(trainer.model), self.player.remember():
            self.answers = None  # of one step only, before the next are asked for
            self.answers = self._ask_all(trainer)
            exploiters = self.exploiters
            episodes = self._play(number, {**self._others(), **exploiters.renewed(self.player, number)})
            exploiters.watch(episodes)
            gain = exploiters.gain
            if not self.settings.best_responses:
                every = max(self.settings.save_every, GLIMPSE_EVERY)
                gain = glimpse(self.game, self.player, number, every, episodes, self.seed)
            self.step.learn(episodes, gain)
        self._say_idle(number)
        return self._lay_out()

    def _ask_all(self, trainer: GRPOTrainer) -> dict[Branching, torch.Tensor] | None:
        """Ask for all information states at once where they are so few that a step meets them all. The answers, where
        the loss may be taken of them: where it is that of one pass over the same weights, which draws nothing."""
        settings, states = self.settings, met_anyway(self.game)
        if not states or settings.style != "direct":
            return None
        whole = self.folds and trainer.pieces == world().num_processes == settings.updates == 1
        grad = whole and not settings.gradient_checkpointing and not has_dropout(trainer.model)
        asked = [(self.player.prompts.ids(seen), (self.player.prompts.end_of_reply,)) for seen in states]
        grad = grad and len(direct_passes(trainer.model, asked)) == 1

        def attempt(pieces: int) -> dict[Branching, torch.Tensor] | None:
            self.pieces = pieces
            return self.player.ask_all(states, grad) if pieces == 1 else None  # play asks for what it meets

        answers = until_it_fits(attempt, self.pieces, max(2, self.pieces), f"{self.label}: all prompts")
        return answers if grad else None

    def _say_idle(self, number: int) -> None:
        """One warning in a run where a step has nothing to learn from."""
        if IDLE not in self._warned and not self.step.credit.advantage[self.step.credit.trained].any():
            self._warned.add(IDLE)
            warnings.warn(
                f"step {number + 1} had nothing to train on: in every group all rollouts earned the same. Where that "
                f"goes on, raise the temperature (now {self.settings.temperature:g}) or the rollouts (now "
                f"{self.settings.rollouts})",
                stacklevel=3,
            )

    def _others(self) -> dict[str, Policy]:
        """Who sits opposite and is no best response."""
        if self.seated is None:
            self.seated = {**resolve_all(self.game, self.others, self.player), **self.given}
        return self.seated

    def _play(self, step: int, opponents: Mapping[str, Policy]) -> list[Episode]:
        """All episodes of the step: this process's share of the matches, and what the others played."""
        share = dealt(self.step.matches, self.number, self.of)
        agent, replies = self.player, self.settings.replies
        if replies:  # an opponent that is the player itself has replies of its own
            agent = Reusing(self.player, replies, (self.seed, step), self.player.prompts.ids)
        # The loss asks for all prompts of a step once it is played; there may be as many of the other seat.
        self.player.prompts.kept = max(self.player.prompts.kept, 2 * len(share) * self.slots)

        def attempt(pieces: int) -> list[Episode]:
            self.pieces = pieces
            bounds = [len(share) * n // pieces for n in range(pieces + 1)]
            return [
                episode
                for first, last in pairwise(bounds)
                for episode in play_matches(
                    self.game,
                    agent,
                    share[first:last],
                    self.seed,
                    opponents=opponents,
                    step=step,
                    common_random_numbers=self.settings.common_random_numbers,
                )
            ]

        played = until_it_fits(attempt, self.pieces, len(share), f"{self.label}: playing")
        if self.of == 1:
            return played
        met = {decision.prompt_ids for episode in played for decision in episode.decisions}
        hands, trees = zip(*from_all((played, self.player.prompts.trees_of(met)), self.of), strict=True)
        self.player.prompts.learn_trees({prompt: tree for others in trees for prompt, tree in others.items()})
        return collected(hands)

    def state(self) -> dict[str, Any]:
        """What a stopped run needs beside its weights to go on: plain JSON values."""
        return {"weights": asdict(self.step.weights), "exploiters": self.exploiters.state()}

    def go_on_with(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` said."""
        self.step.go_on_with(Weights(**state["weights"]))
        self.exploiters.go_on_with(state["exploiters"])

    def _lay_out(self) -> dict[str, list]:
        laid: dict[Any, _Laid] = {}
        credit, number = self.step.credit, 0
        for match, episode in zip(self.step.matches, self.step.episodes, strict=True):
            for decision in episode.decisions:
                if credit.trained[number] and match.owner is None:
                    row, advantage = self._row(match, decision), credit.advantage[number]
                    prompt, reply = decision.prompt_ids, decision.completion_ids + decision.choice_ids
                    alike = (prompt, reply, np.sign(advantage)) if self.folds else row
                    laid.setdefault(alike, _Laid(row, prompt, reply)).advantages.append(advantage)
                number += 1
        rows = self._padded(list(laid.values()))
        mine = rows[len(rows) // self.of * self.number :][: len(rows) // self.of]
        self.advantages = np.array([np.mean(row.advantages) if row.advantages else 0.0 for row in mine])
        self.numbers = [row.number for row in mine]
        return {
            "prompt_ids": [list(row.prompt) for row in mine],
            "completion_ids": [list(row.reply) for row in mine],
            "env_mask": [[len(row.advantages)] * len(row.reply) for row in mine],
            "logprobs": None,
        }

    def _padded(self, laid: list[_Laid]) -> list[_Laid]:
        """With rows that cannot train: as many as groups of TRL's have and processes share; where none are folded, one
        for each that no episode reached."""
        end = (self.player.prompts.end_of_reply,)
        if self.folds:
            whole = self.settings.rollouts * self.of
            missing = -len(laid) % whole or (0 if laid else whole)
            return laid + [_Laid(0, end, end) for _ in range(missing)]
        reached = {row.number: row for row in laid}
        return [reached.get(number) or _Laid(number, end, end) for number in range(self.rows)]

    def name_of(self, number: int) -> str:
        """What the row of this ``number`` is, for people."""
        rest, index = divmod(number, self.settings.rollouts)
        group, slot = divmod(rest, self.slots)
        pool, opponent, nth = list(self.groups)[group]
        turn, move = divmod(slot, self.game.spec.moves_per_round)
        return f"{pool}/{opponent} group {nth} rollout {index} {self.game.spec.unit} {turn} move {move}"

    def _row(self, match: Match, decision: Decision) -> int:
        slot = decision.round * self.game.spec.moves_per_round + decision.move
        return (self.groups[_group(match)] * self.slots + slot) * self.settings.rollouts + match.index

    def metrics(self) -> dict[str, float]:
        """The terms of the last step's episodes, and how they were played."""
        step = self.step
        decisions = [d for episode in step.episodes for d in episode.decisions]
        found = {
            **dict(zip(TERMS, row_of(step.terms).tolist(), strict=True)),
            "safety": objective(step.spec, step.terms, step.spec.eval_weights),
            **self._worst_case(),
            "fallback": float(np.mean([d.fallback for d in decisions])),
            "decisions": float(len(decisions)),
            "prompts": float(len({d.prompt_ids for d in decisions})),
            "replies": float(len({(d.prompt_ids, d.completion_ids, d.choice_ids) for d in decisions})),
            "reply_tokens": float(np.mean([len(d.completion_ids) for d in decisions])),
            "advantage_scale": step.credit.scale,
            "idle_groups": idle_groups(step.episodes, step.credit),
            **{f"spread_{term}": value for term, value in self._spreads().items()},
        }
        if self.settings.style == "reasoned":
            found["cut_off"] = float(np.mean([d.cut_off for d in decisions]))
        if step.dual is not None:  # the weights of the next step
            found |= {f"weight_{name}": weight for name, weight in asdict(step.weights).items()}
        return {f"sepo/{name}": value for name, value in found.items()}

    def _worst_case(self) -> dict[str, float]:
        """What the best response gains, exactly or in the step's episodes, and J with it in the exploit's place."""
        spec, terms = self.step.spec, self.step.terms
        if terms.worst_case is None:
            return {}
        return {"worst_case": terms.worst_case, "guaranteed": guaranteed(spec, terms, spec.eval_weights)}

    def _spreads(self) -> dict[str, float]:
        """In-group spread of every term; a penalty without any gives one warning in a run."""
        spreads = spread(self.step.episodes)
        for penalty in silent_penalties(self.step.spec, self.step.charged, spreads):
            if penalty not in self._warned:
                self._warned.add(penalty)
                warnings.warn(
                    f"the {penalty} penalty was the same in all rollouts of every group of a step: it trained nothing "
                    "there. This is right where the policy has solved it; else raise the temperature or the rollouts",
                    stacklevel=2,
                )
        return spreads


def _group(match: Match) -> tuple[str, str, int]:
    return match.pool, match.opponent, match.group
