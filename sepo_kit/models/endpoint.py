"""An agent behind a server: any OpenAI-compatible one, asked one fresh two-message chat per decision.

The reply is read as that of a local model (``game.parse``). One that cannot be read, or was cut off, is asked for once
more with the legal actions named; if that cannot be read either, the action is drawn uniformly from the legal ones, by
the decision's own uniform number, and recorded as a fallback. It is never guessed.

Where the server gives log-probabilities and the legal actions begin differently, ``direct`` replies have a closed-form
distribution, that of a constrained decode of the first token: then the agent can be enumerated. A server lists the
likeliest tokens alone; where an action that is not among them may have more than negligible weight, as behind a model
that thinks first, there is none.

How questions go out together and what they cost is ``asking.py``, how one is sent, and every way in which that fails,
``server.py``; endpoints by name: ``endpoints_file.py``.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import NoDistribution, Policy, draw
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, answer_rule
from sepo_kit.games.numbers import is_finite, require_count
from sepo_kit.models.asking import Asking, Usage
from sepo_kit.models.cache import cache_folder
from sepo_kit.models.chat import with_system
from sepo_kit.models.kept_replies import KeptReplies, label
from sepo_kit.models.server import NotTaken, Reply, Server, checked_variable

LONGEST_KEPT = 20_000  # characters of a reply that a record keeps
MOST_NAMED = 200  # legal actions that are named when a reply is asked for once more
NEGLIGIBLE = 1e-4  # of the likeliest action's weight: what one that is not listed may have at most
ROUNDING = 1e-6  # of the sum of probabilities that a server gives
ALIKE = "do not tell {} apart"  # why first tokens give no distribution over actions
UNSEEN = "do not show how likely each of {} is (if the model thinks first, switch that off at the server)"


class Endpoint(Policy):
    """A model behind a server as an agent; made by ``endpoint``, whose parameters these are."""

    def __init__(
        self,
        asking: Asking,
        game: Game,
        *,
        temperature: float | None,
        max_tokens: int,
        style: str,
        log_probs: bool | str,
        version: str,
        name: str,
    ) -> None:
        self.name = name
        self.asking = asking
        self.server = asking.server
        self.game = game
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.style = style
        self.log_probs = log_probs
        # Not at all where it is empty: replies that were kept before there were versions are found.
        self._version = {"version": version} if version else {}
        self._gives_log_probs = style == "direct" and log_probs is not False
        # Legal actions that their first tokens do not tell apart.
        self._beginning_alike: set[tuple[str, ...]] = set()

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}: {self.server.model} at {self.server.url}, {self.style}, {self.game.spec.id})"

    def asked_by(self, game: Game) -> Endpoint:
        other = copy(self)  # it asks through the same: replies on disk go by the prompt
        other.game, other._beginning_alike = game, set()
        return other

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        return self.asking.usage

    def describe(self) -> dict[str, Any]:
        """All that its replies depend on, as plain JSON values."""
        return {
            "base_url": self.server.url,
            "model": self.server.model,
            "style": self.style,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "log_probs": self.log_probs,
            **self._version,
        }

    def identity(self) -> str:
        return json.dumps(self.describe(), sort_keys=True)

    def messages(self, seen: InformationState, again: bool = False) -> list[dict[str, str]]:
        """The two messages of one decision: rules, and what this seat has seen; ``again``: with the legal actions. They
        are sent as one where the server's model knows no role of the system."""
        content = self.game.render(seen)
        if again:
            named = ", ".join(seen.legal_actions[:MOST_NAMED])
            content += (
                f"\n\nThe last line of your reply must be one of these actions and nothing else: {named}."
            )
        return with_system(self.game.system_prompt(self.style), content)

    # --- decisions --------------------------------------------------------------------------------

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        """One decision per state; those that are asked for go out ``concurrency`` at a time.

        Raises
        ------
        EndpointError
            The server cannot be used. What it had replied is kept.
        ValueError
            ``log_probs=True``, and log-probabilities give no distribution.
        """
        stated = self._stated(seen) if self._gives_log_probs else [(None, "")] * len(seen)
        for state, (p, why) in zip(seen, stated, strict=True):
            if p is None and self.log_probs is True:
                raise ValueError(f"{self._untold(state, why)}; use log_probs='auto' to ask in words there")
        decisions = [
            None if p is None else self._drawn(state, p, uniform)
            for state, (p, _), uniform in zip(seen, stated, uniforms, strict=True)
        ]
        asked = [i for i, decision in enumerate(decisions) if decision is None]
        said = self._replies([(seen[i], False, uniforms[i]) for i in asked])
        replies = dict(zip(asked, said, strict=True))
        actions = {i: self._action(reply, seen[i]) for i, reply in replies.items()}
        unread = [i for i in asked if actions[i] is None]
        for i, reply in zip(
            unread, self._replies([(seen[i], True, uniforms[i]) for i in unread]), strict=True
        ):
            replies[i], actions[i] = reply, self._action(reply, seen[i])
        for i in asked:
            action, text = actions[i], _shortened(replies[i].text)
            fallback = action is None
            if fallback:
                legal = seen[i].legal_actions
                action = legal[min(int(uniforms[i] * len(legal)), len(legal) - 1)]
            decisions[i] = Decision(action, None, text, fallback)
        self.asking.count(asked_again=len(unread), fallbacks=sum(decisions[i].fallback for i in asked))
        return decisions

    def _action(self, reply: Reply, seen: InformationState) -> str | None:
        # A reply that was cut off is not read: its last line may have had more to say.
        return None if reply.finish == "length" else self.game.parse(reply.text, seen.legal_actions)

    def _drawn(self, seen: InformationState, p: np.ndarray, uniform: float) -> Decision:
        index = draw(np.cumsum(p), uniform)
        return self.choice(seen, index, p[index])

    def choice(self, seen: InformationState, index: int, probability: float) -> Decision:
        action = seen.legal_actions[index]
        return Decision(action, float(np.log(probability)), action)

    # --- distributions ----------------------------------------------------------------------------

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        if self.style != "direct":
            raise NoDistribution(
                f"{self.name} answers in free text and has no closed-form distribution; use style='direct' with a "
                "server that gives log-probabilities, or sample with sk.evaluate"
            )
        if self.log_probs is False:
            raise NoDistribution(
                f"{self.name} was told not to ask for log-probabilities; use log_probs='auto'"
            )
        stated = self._stated(seen)
        for state, (p, why) in zip(seen, stated, strict=True):
            if p is None:
                raise NoDistribution(f"{self._untold(state, why)}; sample with sk.evaluate")
        return [p for p, _ in stated]

    def _untold(self, seen: InformationState, why: str) -> str:
        if not self._gives_log_probs:
            return f"{self.server.url} gives no log-probabilities"
        named = why.format(", ".join(seen.legal_actions[:6]))
        return f"the first tokens that {self.server.url} lists {named}"

    def _stated(self, seen: Sequence[InformationState]) -> list[tuple[np.ndarray | None, str]]:
        """Distributions over legal actions; None, and why, where the server's log-probabilities give none."""
        asked = [state for state in dict.fromkeys(seen) if state.legal_actions not in self._beginning_alike]
        found: dict[InformationState, tuple[np.ndarray | None, str]] = {}
        for part in (
            asked[:1],
            asked[1:],
        ):  # one first: not all are asked in vain where the server gives none
            if not self._gives_log_probs:
                break
            try:
                replies = self.asking.together([(self._first_token(state), 0.5) for state in part])
            except NotTaken:
                replies = [None] * len(part)
            if part and not any(reply and reply.first_token for reply in replies):
                self._gives_log_probs = False
            for state, reply in zip(part, replies, strict=True):
                given = reply.first_token if reply else {}
                found[state] = first_token_distribution(given, state.legal_actions, self.temperature)
                if found[state][1] == ALIKE:
                    self._beginning_alike.add(state.legal_actions)
        return [found.get(state, (None, ALIKE)) for state in seen]

    # --- questions --------------------------------------------------------------------------------

    def _replies(self, asked: Sequence[tuple[InformationState, bool, float]]) -> list[Reply]:
        """Replies in words to (state, whether again, uniform number) each; equal questions are asked once."""
        questions = [self._question(*each) for each in asked]
        names = [label(question) for question in questions]
        once = {
            name: (question, each[2]) for name, question, each in zip(names, questions, asked, strict=True)
        }
        replies = dict(zip(once, self.asking.together(list(once.values())), strict=True))
        return [replies[name] for name in names]

    def _question(self, seen: InformationState, again: bool, uniform: float) -> dict[str, Any]:
        """All that a reply depends on. At temperature 0 that is not the draw: equal prompts are asked once."""
        drawn = zlib.crc32(np.float64(uniform).tobytes()) & 0x7FFFFFFF
        return self._asked(seen, again) | {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": None if self.temperature == 0 else drawn,
            "log_probs": False,
        }

    def _first_token(self, seen: InformationState) -> dict[str, Any]:
        """The question for log-probabilities. At temperature 1, so that no server's own way with it matters."""
        return self._asked(seen) | {"temperature": 1.0, "max_tokens": 1, "seed": None, "log_probs": True}

    def _asked(self, seen: InformationState, again: bool = False) -> dict[str, Any]:
        asked = {"url": self.server.url, "model": self.server.model, "messages": self.messages(seen, again)}
        return asked | self._version


def endpoint(
    base_url: str,
    model: str,
    game: Game | str,
    *,
    temperature: float | None = 0.8,
    max_tokens: int = 256,
    style: str = "reasoned",
    concurrency: int = 8,
    timeout: float = 60.0,
    retries: int = 4,
    log_probs: bool | str = "auto",
    key_variable: str | None = None,
    prices: tuple[float, float] | None = None,
    version: str = "",
    kept: Path | str | bool | None = "",
    name: str | None = None,
) -> Endpoint:
    """A model behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, ``transformers serve``, hosted) as an agent.

    Parameters
    ----------
    base_url, model
        Where the server is, such as "http://127.0.0.1:8000/v1", and what it calls the model.
    temperature
        >= 0; None leaves it to the server.
    max_tokens
        Longest reply; one that is cut off there is not read.
    style
        "reasoned" or "direct", as in ``language_model``.
    concurrency
        Questions that are under way at a time.
    timeout, retries
        Seconds per attempt, and further attempts after 429, 5xx, a timeout or a cut connection, with growing waits;
        Retry-After is honoured.
    log_probs
        "auto": ``direct`` plays by the server's log-probabilities where they give a distribution; True: they must;
        False: it never asks for them.
    key_variable
        The environment variable with the key. None: no key is sent, $OPENAI_API_KEY neither.
    prices
        Of a million prompt and of a million reply tokens, for the cost in ``usage``.
    version
        Of the model, where the server has had others of that name: their replies on disk are not taken for its.
    kept
        The folder of replies on disk: "" for ``replies`` in the cache folder ($SEPO_KIT_CACHE, else the user's), None
        or False to keep nothing.

    Raises
    ------
    ValueError
        A parameter is not what it must be, the key's variable is not set, or the openai package is missing. Whether
        there is a server turns out when it is first asked: ``EndpointError``.
    """
    game = get_game(game)
    answer_rule(style)
    _check_number("temperature", temperature, 0, none=True)
    _check_number("timeout", timeout, 0, above=True)
    for what, value, least in (
        ("max_tokens", max_tokens, 1),
        ("concurrency", concurrency, 1),
        ("retries", retries, 0),
    ):
        require_count(what, value, least)
    if log_probs not in (True, False, "auto"):
        raise ValueError(f"log_probs must be 'auto', True or False, got {log_probs!r}")
    if log_probs is True and style != "direct":
        raise ValueError("log_probs=True needs style='direct': a reply in free text has no distribution")
    if not isinstance(model, str) or not model.strip():
        raise ValueError(f"model must be the name that the server gives it, got {model!r}")
    if not isinstance(version, str):
        raise ValueError(f"version must be a text such as '2', got {version!r}")
    if kept is False:
        kept = None
    if kept is not None and not isinstance(kept, str | Path):
        raise ValueError(f"kept must be a folder, '' for the cache's, None or False for none, got {kept!r}")
    if prices is not None:
        if not isinstance(prices, Sequence) or isinstance(prices, str) or len(prices) != 2:
            raise ValueError(
                f"prices must be two numbers, per million prompt and reply tokens, got {prices!r}"
            )
        for price in prices:
            _check_number("prices", price, 0)
        prices = (float(prices[0]), float(prices[1]))
    server = Server(base_url, model, checked_variable(key_variable), timeout, retries)
    shelf = KeptReplies(cache_folder() / "replies" if kept == "" else kept)
    return Endpoint(
        Asking(server, shelf, concurrency, prices),
        game,
        temperature=temperature,
        max_tokens=int(max_tokens),
        style=style,
        log_probs=log_probs,
        version=version,
        name=name or model,
    )


def first_token_distribution(
    given: dict[str, float], legal_actions: Sequence[str], temperature: float | None
) -> tuple[np.ndarray | None, str]:
    """The distribution over ``legal_actions`` of a constrained decode of the first token.

    Parameters
    ----------
    given
        Natural log-probabilities of the likeliest first tokens, and of the one drawn, at temperature 1, by text.

    Returns
    -------
    p, why
        Shape (A,), and ""; or None, and ``ALIKE`` where a token begins several actions, ``UNSEEN`` where an action that
        no token begins may be played.

    >>> p, _ = first_token_distribution({"P": -0.5, "B": -1.5, "I": -2.0}, ("PASS", "BET"), 1.0)
    >>> p.round(2).tolist()
    [0.73, 0.27]
    >>> first_token_distribution({"1": -0.1}, ("1", "10"), 1.0) == (None, ALIKE)
    True
    """
    log_p: list[list[float]] = [[] for _ in legal_actions]
    for token, value in given.items():
        beginning = token.strip()
        of = [i for i, action in enumerate(legal_actions) if beginning and action.startswith(beginning)]
        if len(of) > 1:
            return None, ALIKE
        if of:
            log_p[of[0]].append(value)
    best = max((value for values in log_p for value in values), default=None)
    if best is None:
        return None, UNSEEN
    heat = 1.0 if temperature is None else max(temperature, 1e-6)
    if not all(log_p) and (_most_unlisted(given) - best) / heat > math.log(NEGLIGIBLE):
        return None, UNSEEN
    mass = np.array([sum(math.exp((value - best) / heat) for value in values) for values in log_p])
    return mass / mass.sum(), ""


def _most_unlisted(given: dict[str, float]) -> float:
    """The log-probability that a token which is not among those ``given`` has at most."""
    left = max(1 - sum(map(math.exp, given.values())), 0) + ROUNDING
    least = sorted(given.values())[1:2]  # the very least may be there since it was drawn
    return min([math.log(left), *least])


def _shortened(text: str) -> str:
    """A reply as records keep it: its beginning and its end where it is very long."""
    if len(text) <= LONGEST_KEPT:
        return text
    half = LONGEST_KEPT // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"


def _check_number(name: str, value: Any, least: float, none: bool = False, above: bool = False) -> None:
    if none and value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
    if not number or value < least or (above and value == least):
        raise ValueError(f"{name} must be a number {'>' if above else '>='} {least}, got {value!r}")
