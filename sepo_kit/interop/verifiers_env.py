"""A game as a verifiers environment (``verifiers.v1``): the kit plays, verifiers' agent answers each decision.

A task is one training step of credit mode ``credited``: ``rollouts`` episodes against every opponent of the train,
exploit and collusive pools, with the kit's draws of seed ``task.data.seed``. Each decision is a trace of its own, a
fresh chat of the game's system prompt and what the seat has seen. Its rewards are its shares of the four terms, from
that round on where rounds depend on each other: ``payoff`` with weight 1, the penalties with minus the game's weights,
so that they add up to the decision's share of J. Its credited advantage is the metric ``advantage``, and stands on the
sampled tokens (``node.advantages``) where the client gives tokens. A reply that names no legal action is replaced by a
random one and counted in the metric ``fallback``.

verifiers finds plug-ins by module name; this module puts itself up as ``sepo_kit_verifiers``, in this process only.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence

import httpx
import verifiers.v1 as vf

from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games.base import REPLY_STYLES, Game, InformationState, Weights
from sepo_kit.games.numbers import require_count
from sepo_kit.objective.credit import assign_credit, training_matches

__all__ = ["ChatHarness", "GameEnv", "GameTaskset"]

PLUGIN = "sepo_kit_verifiers"
CERTIFICATES = httpx.create_ssl_context(trust_env=False)  # read once: slower than a reply on the loopback
_games: dict[str, Game] = {}  # by id: configurations hold no objects


def to_verifiers(game: Game, rollouts: int, style: str) -> GameEnv:
    """See ``sepo_kit.interop``."""
    require_count("rollouts", rollouts)
    if style not in REPLY_STYLES:
        raise ValueError(f"reply style must be one of {', '.join(REPLY_STYLES)}, got {style!r}")
    _games[game.spec.id] = game
    sys.modules.setdefault(PLUGIN, sys.modules[__name__])
    taskset = GameTasksetConfig(id=PLUGIN, game=game.spec.id, rollouts=rollouts, style=style)
    return GameEnv(GameEnvConfig(taskset=taskset))


class GameTasksetConfig(vf.TasksetConfig):
    """Which game, how many rollouts against each opponent, and how replies are to be written."""

    game: str
    rollouts: int = 4
    style: str = "reasoned"


class StepData(vf.TaskData):
    """One training step; a decision's trace has the same data with its own prompt."""

    seed: int


class StepTask(vf.Task[StepData, vf.State, vf.TaskConfig]):
    """Nothing is scored here: what a decision earns is known when all episodes are over."""


class GameTaskset(vf.Taskset[StepTask, GameTasksetConfig]):
    """Training steps without end, one a seed."""

    INFINITE = True

    def load(self) -> Iterator[StepTask]:
        game, seed = _games[self.config.game], 0
        rules = game.system_prompt(self.config.style)
        while True:
            name = f"{game.spec.id} {seed}"
            yield StepTask(StepData(name=name, seed=seed, system_prompt=rules), self.config.task)
            seed += 1


class ChatHarness(vf.Harness[vf.HarnessConfig]):
    """One chat completion, asked for in this process: no program is started for a single reply."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data) -> vf.ProgramResult:
        system, prompt = self.resolve_text_prompt(data)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        async with httpx.AsyncClient(timeout=None, trust_env=False, verify=CERTIFICATES) as client:
            reply = await client.post(
                f"{endpoint}/chat/completions",
                headers={"Authorization": f"Bearer {secret}"},
                json={"model": ctx.model, "messages": messages},
            )
        failed = "" if reply.is_success else f"status {reply.status_code}: {reply.text[:500]}"
        return vf.ProgramResult(exit_code=int(not reply.is_success), stdout="", stderr=failed)


class _Asking(Policy):
    """The agent as a policy of the kit: a batch of decisions goes out together. ``batches``: their traces."""

    name = "verifiers"

    def __init__(self, game: Game, agent: vf.Agent, task: StepTask, loop: asyncio.AbstractEventLoop) -> None:
        self.game, self.agent, self.task, self.loop = game, agent, task, loop
        self.batches: list[list[vf.Trace]] = []

    def distributions(self, seen: Sequence[InformationState]):
        raise NoDistribution("an agent behind verifiers answers in free text")

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        batch = asyncio.run_coroutine_threadsafe(self._ask(seen), self.loop).result()
        self.batches.append(batch)
        return [self._read(*asked) for asked in zip(seen, uniforms, batch, strict=True)]

    async def _ask(self, seen: Sequence[InformationState]) -> list[vf.Trace]:
        prompts = [self.game.render(state) for state in seen]
        return await asyncio.gather(*(self.agent.run(self.task.with_data(prompt=p)) for p in prompts))

    def _read(self, state: InformationState, uniform: float, trace: vf.Trace) -> Decision:
        if not trace.ok:
            raise RuntimeError(f"the agent failed at a decision: {trace.last_error}")
        legal = state.legal_actions
        action = self.game.parse(trace.last_reply, legal)
        trace.record_metric("fallback", float(action is None))
        if action is not None:
            return Decision(action, None, trace.last_reply)
        return Decision(legal[int(uniform * len(legal))], None, trace.last_reply, fallback=True)


class GameEnvConfig(vf.EnvConfig):
    """``player`` sits in seat 0; up to 32 of its decisions are asked for at once."""

    player: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    max_concurrent_agents: int | None = 32


class GameEnv(vf.Env[GameEnvConfig]):
    """Plays a step's episodes in lockstep, then pays every decision."""

    async def run(self, task: StepTask, agents: vf.Agents) -> None:
        game = _games[self.config.taskset.game]
        player = _Asking(game, agents.player, task, asyncio.get_running_loop())
        todo = training_matches(game, "credited", self.config.taskset.rollouts)
        episodes = await asyncio.to_thread(play_matches, game, player, todo, task.data.seed)
        pay(game, episodes, in_order(episodes, player.batches))


def in_order(episodes: Sequence[Episode], batches: Sequence[Sequence[vf.Trace]]) -> list[vf.Trace]:
    """The traces in the order in which ``assign_credit`` has the decisions. Batch number k holds the k-th decision of
    every episode that has as many, in the episodes' order."""
    lines = [iter(batch) for batch in batches]
    return [next(lines[k]) for episode in episodes for k in range(len(episode.decisions))]


def pay(game: Game, episodes: Sequence[Episode], traces: Sequence[vf.Trace]) -> None:
    """Record every decision's terms and advantage on its trace."""
    spec, units = game.spec, ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    payoff, *charged = (assign_credit(spec, episodes, Weights(*unit)).reward for unit in units)
    advantages = assign_credit(spec, episodes).advantage
    for index, (trace, advantage) in enumerate(zip(traces, advantages, strict=True)):
        trace.record_reward("payoff", payoff[index])
        for name, rest in zip(("exploit", "collusion", "externality"), charged, strict=True):
            trace.record_reward(name, payoff[index] - rest[index], -getattr(spec.weights, name))
        trace.record_metric("advantage", advantage)
        for node in trace.nodes:
            if node.sampled and any(node.mask):
                node.advantages = [float(advantage)] * sum(node.mask)
