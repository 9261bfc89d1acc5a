"""Questions to a server: each answered from disk, or asked for once, several at a time; and what that took."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from typing import Any

from sepo_kit.models.chat import without_system
from sepo_kit.models.kept_replies import KeptReplies
from sepo_kit.models.server import NotTaken, Reply, Server


@dataclass
class Usage:
    """What was asked of a server, and what of it was not on disk yet.

    ``replies`` that were used, ``asked`` of the server in this process, ``retried`` after errors that passed,
    ``asked_again`` since the first reply could not be read, ``fallbacks``: decisions for which neither could.
    ``prompt_tokens``, ``completion_tokens``: of all replies used; ``paid_*``: of those asked for in this process, and
    ``cost`` of these, in the currency of the prices; None without prices.
    """

    replies: int = 0
    asked: int = 0
    retried: int = 0
    asked_again: int = 0
    fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    paid_prompt_tokens: int = 0
    paid_completion_tokens: int = 0
    cost: float | None = None

    def since(self, before: Usage) -> Usage:
        """What was added to ``before``."""
        return Usage(
            **{
                field.name: None if self.cost is None and field.name == "cost"
                else getattr(self, field.name) - (getattr(before, field.name) or 0)
                for field in fields(Usage)
            }
        )  # fmt: skip

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        return (
            f"{self.replies} replies ({self.asked} asked for now, the others from disk), {self.asked_again} asked for "
            f"once more, {self.fallbacks} fallbacks, {self.retried} retries; tokens {self.prompt_tokens} in, "
            f"{self.completion_tokens} out, paid for now {self.paid_prompt_tokens} in, "
            f"{self.paid_completion_tokens} out{cost}"
        )


class Asking:
    """Asks ``server`` what ``kept`` has not, ``concurrency`` questions at a time.

    ``prices``: of a million prompt and of a million reply tokens; None: unknown.
    """

    def __init__(
        self, server: Server, kept: KeptReplies, concurrency: int, prices: tuple[float, float] | None
    ) -> None:
        self.server = server
        self.kept = kept
        self.concurrency = concurrency
        self.prices = prices
        self._usage = Usage(cost=None if prices is None else 0.0)
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        with self._lock:
            return Usage(**{**asdict(self._usage), "retried": self.server.retried})

    def count(self, asked_again: int, fallbacks: int) -> None:
        """Add to ``usage`` what became of replies."""
        with self._lock:
            self._usage.asked_again += asked_again
            self._usage.fallbacks += fallbacks

    def together(self, asked: Sequence[tuple[dict[str, Any], float]]) -> list[Reply]:
        """Replies to (question, jitter) each; the first error ends it, and what had been replied by then is kept.

        Raises
        ------
        EndpointError
            The server cannot be used.
        """
        if len(asked) <= 1:
            return [self._reply(*each) for each in asked]
        pool = ThreadPoolExecutor(min(self.concurrency, len(asked)), thread_name_prefix="endpoint")
        try:
            waiting = [pool.submit(self._reply, *each) for each in asked]
            for future in as_completed(waiting):
                future.result()  # the first error, wherever it is
            return [future.result() for future in waiting]
        except BaseException:
            self.server.stopping.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self.server.stopping.clear()

    def _reply(self, question: dict[str, Any], jitter: float) -> Reply:
        """From disk, or from the server, and then on disk."""
        kept = self._kept(question)
        if kept is not None:
            reply = Reply(**{name: kept[name] for name in Reply.__dataclass_fields__})
        else:
            sent, reply = self._sent(question, jitter)
            self.kept.put(sent, asdict(reply))
        with self._lock:
            used = self._usage
            used.replies += 1
            used.prompt_tokens += reply.prompt_tokens
            used.completion_tokens += reply.completion_tokens
            if kept is None:
                used.asked += 1
                used.paid_prompt_tokens += reply.prompt_tokens
                used.paid_completion_tokens += reply.completion_tokens
                if self.prices is not None:
                    given, made = self.prices
                    used.cost += (given * reply.prompt_tokens + made * reply.completion_tokens) / 1e6
        return reply

    def _kept(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """What was replied to ``question``, in whichever of its two forms it was sent."""
        kept = self.kept.get(question) if self.server.takes_system else None
        return self.kept.get(_in_one_message(question)) if kept is None else kept

    def _sent(self, question: dict[str, Any], jitter: float) -> tuple[dict[str, Any], Reply]:
        """``question`` in the form that the server takes, and what it replied."""
        how = {name: question[name] for name in ("temperature", "max_tokens", "seed", "log_probs")}
        if self.server.takes_system:
            try:
                return question, self.server.ask(question["messages"], jitter=jitter, **how)
            except NotTaken as refused:
                if refused.field != "system":
                    raise
        question = _in_one_message(question)
        reply = self.server.ask(question["messages"], jitter=jitter, **how)
        self.server.takes_system = False
        return question, reply


def _in_one_message(question: dict[str, Any]) -> dict[str, Any]:
    return question | {"messages": without_system(question["messages"])}
