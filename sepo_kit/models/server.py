"""One question to an OpenAI-compatible chat server, and every way in which that can go wrong, each in one line.

Here a question is sent, sent again where that may help, and its answer read. What is asked, and what an answer means in
a game, is ``endpoint.py``. No message, file or log has the key in it.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

AGAIN = (408, 409, 425, 429)  # besides 5xx: what may go well a moment later
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds of back-off, doubled each time
LONGEST_ASKED_WAIT = 600.0  # seconds a server may ask to be left alone
TOP = 20  # the most alternatives to a token that servers give
SHOWN = 200  # characters of a server's own words that a message repeats
# How chat templates, and servers before them, refuse a message of the system.
NO_SYSTEM = re.compile(
    r"\broles?\b|\bsystem (message|prompt|instruction)|\bdeveloper instruction", re.IGNORECASE
)


class EndpointError(OSError):
    """A server cannot be used; the message says why and what to do."""


class NotTaken(Exception):
    """The server does not take the named field of a request."""

    def __init__(self, field: str) -> None:
        self.field = field


@dataclass(frozen=True)
class Reply:
    """What a server replied.

    ``finish``: why it stopped, "length" where it was cut off. ``first_token``: natural log-probabilities of what could
    stand first, by text; {} where the server gives none. Tokens as the server counts them, 0 where it does not.
    """

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    first_token: dict[str, float]


class Server:
    """A server at ``base_url`` with the model called ``model``.

    Parameters
    ----------
    key_variable
        The environment variable that holds the key; None: no key is sent.
    timeout
        Seconds that one attempt may take.
    retries
        Further attempts after one that failed in a way that may pass.

    Raises
    ------
    ValueError
        A parameter is not what it must be, or the variable is not set.
    """

    def __init__(
        self, base_url: str, model: str, key_variable: str | None, timeout: float, retries: int
    ) -> None:
        self.url = checked_url(base_url)
        self.model = model
        self.key_variable = key_variable
        self.timeout = timeout
        self.retries = retries
        self.retried = 0
        self.takes_system = True  # a message of the system, as far as is known
        self.stopping = (
            threading.Event()
        )  # set where somebody else's question failed: nobody waits any longer
        self._lock = threading.Lock()
        self._answered = False
        self._longest_reply = "max_tokens"  # the field for it
        self._dropped: set[str] = set()
        self._client = _client(self.url, key_variable, timeout)

    def __repr__(self) -> str:
        return f"Server({self.url!r}, {self.model!r})"

    def ask(
        self,
        messages: list[dict[str, str]],
        *,
        temperature: float | None,
        max_tokens: int,
        seed: int | None,
        log_probs: bool = False,
        jitter: float = 0.0,
    ) -> Reply:
        """The reply to ``messages``; ``jitter`` in [0, 1) spreads the waits of those who ask at the same time.

        Raises
        ------
        EndpointError
            There is none.
        NotTaken
            "logprobs": the server gives no log-probabilities; "system": its model knows no role of the system.
        """
        optional = {"temperature": temperature, "seed": seed}
        while True:
            fields = {n: v for n, v in optional.items() if v is not None and n not in self._dropped}
            longest = self._longest_reply
            fields[longest] = max_tokens
            if log_probs:
                fields |= {"logprobs": True, "top_logprobs": TOP}
            try:
                return self._attempts(messages, fields, jitter)
            except NotTaken as refused:
                field = refused.field
            if field in ("logprobs", "top_logprobs"):
                raise NotTaken("logprobs")
            if field == "system":
                raise NotTaken(field)
            if (
                field == "seed"
            ):  # some servers refuse it; draws then differ, and the kept replies stay what they are
                self._dropped.add(field)
            elif field == "max_tokens" and longest == field:
                self._longest_reply = "max_completion_tokens"
            else:
                raise EndpointError(
                    f"{self.url} does not take {field} for {self.model!r}; leave it to the server ({field}=None) or "
                    "choose another model"
                )

    def _attempts(self, messages: list[dict[str, str]], fields: dict[str, Any], jitter: float) -> Reply:
        for attempt in range(self.retries + 1):
            reply, problem, wait = self._attempt(messages, fields)
            if reply is not None:
                return reply
            if wait is None:
                raise problem
            if attempt == self.retries:
                break
            if wait > LONGEST_ASKED_WAIT:
                raise EndpointError(f"{self.url} asks to wait {wait:.0f} s; run the same again then")
            backoff = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * (0.75 + 0.5 * jitter)
            if self.stopping.wait(wait or backoff):
                break
            with self._lock:
                self.retried += 1
        tries = f"{attempt + 1} attempt{'s' if attempt else ''}"
        raise EndpointError(f"{problem} ({tries}); what was replied is kept: run the same again to go on")

    def _attempt(
        self, messages: list[dict[str, str]], fields: dict[str, Any]
    ) -> tuple[Reply | None, Exception | None, float | None]:
        """A reply; or else what is wrong, and the seconds to wait: 0 as one likes, None where waiting does not help."""
        import openai

        try:
            answer = self._client.chat.completions.create(
                model=self.model, messages=messages, extra_headers=self._unsent(), **fields
            )
        except openai.APITimeoutError:
            return None, EndpointError(f"{self.url} did not reply within {self.timeout:g} s"), 0.0
        except openai.APIConnectionError as error:
            return None, *self._unreached(error.__cause__ or error)
        except openai.APIStatusError as error:
            status, said, headers = error.status_code, _words(error), error.response.headers
        except (openai.OpenAIError, ValueError, TypeError) as error:  # what it sent is not even JSON
            return None, self._other_schema(type(error).__name__), None
        else:
            self._answered = True
            reply = _read(answer)
            if reply is None:
                return None, self._other_schema(_shape(answer)), None
            return replace(reply, text=self._without_key(reply.text)), None, None
        # Outside of the except blocks, so that no error that holds the request, and so the key, hangs on ours.
        if status in (400, 422):
            for field in ("top_logprobs", "logprobs", "seed", "max_tokens", "temperature"):
                if field in fields and re.search(rf"\b{field}\b", said):
                    return None, NotTaken(field), None
            if messages[0]["role"] == "system" and NO_SYSTEM.search(said):
                return None, NotTaken("system"), None
        if status in AGAIN or status >= 500:
            problem = EndpointError(f"{self.url} is overloaded or broken ({status}{self._quoted(said)})")
            return None, problem, asked_wait(headers.get("retry-after"))
        return None, self._refused(status, said), None

    def _unsent(self) -> dict[str, Any]:
        """Headers to leave out: neither the user's OpenAI key nor their organisation is any other server's business."""
        import openai

        names = () if self.key_variable else ("Authorization", "OpenAI-Organization", "OpenAI-Project")
        return dict.fromkeys(names, openai.omit)

    def _unreached(self, cause: BaseException) -> tuple[EndpointError, float | None]:
        said = " ".join(str(cause).split())[:SHOWN] or type(cause).__name__
        if type(cause).__name__ in ("ConnectError", "UnsupportedProtocol", "LocalProtocolError"):
            problem = (
                f"there is no server at {self.url} ({self._without_key(said)}); start it, or correct base_url"
            )
            return EndpointError(problem), 0.0 if self._answered else None
        return EndpointError(f"{self.url} cut the connection ({self._without_key(said)})"), 0.0

    def _refused(self, status: int, said: str) -> EndpointError:
        quoted = self._quoted(said)
        if status in (401, 403) and self.key_variable:
            return EndpointError(
                f"{self.url} refuses the key in ${self.key_variable} ({status}{quoted}); set it to another, and mind "
                "that the key allows this model"
            )
        if status in (401, 403):
            return EndpointError(
                f"{self.url} wants a key ({status}{quoted}); put it into an environment variable and name that as "
                "key_variable"
            )
        if status == 404:
            known = self._models()
            has = f"it has: {known}" if known else "a base_url ends in /v1 as a rule"
            return EndpointError(f"{self.url} does not know {self.model!r} ({status}{quoted}); {has}")
        return EndpointError(f"{self.url} refuses what it is asked ({status}{quoted})")

    def _models(self) -> str:
        import openai

        try:
            listed = self._client.models.list(extra_headers=self._unsent()).data
            names = [str(each.id) for each in listed]
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            return ""
        return self._without_key(", ".join(names[:8])[:SHOWN] + (", ..." if len(names) > 8 else ""))

    def _other_schema(self, shape: str) -> EndpointError:
        return EndpointError(
            f"{self.url} replies in another schema ({self._without_key(shape)}); it must serve OpenAI's "
            "chat/completions: choices[0].message.content"
        )

    def _quoted(self, said: str) -> str:
        return f": {self._without_key(said)}" if said else ""

    def _without_key(self, text: str) -> str:
        key = _key(self.key_variable) if self.key_variable else ""
        return text.replace(key, "***") if key else text


def checked_url(base_url: str) -> str:
    """``base_url`` without a slash at its end; ValueError where it is no address, or holds what may be a secret."""
    parts = urlsplit(base_url) if isinstance(base_url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        shown = "" if parts is None or "@" in base_url else f", got {base_url!r:.100}"
        raise ValueError(f"base_url must be an address such as http://127.0.0.1:8000/v1{shown}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"base_url must hold no user, password, ? or # (host {parts.hostname}); put the key into an environment "
            "variable and name that as key_variable"
        )
    return base_url.rstrip("/")


def checked_variable(name: str | None) -> str | None:
    """``name`` if it can be that of an environment variable; ValueError, which does not repeat it, where it may be a
    key."""
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name)):
        raise ValueError(
            "key_variable must be the name of an environment variable (capitals, digits and _), never the key itself"
        )
    return name


def _key(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _client(url: str, key_variable: str | None, timeout: float):
    try:
        import openai
    except ImportError:
        raise ValueError(
            "endpoints need the openai package; install it as the extra: pip install 'sepo_kit[endpoints]'"
        ) from None
    if key_variable is None:
        return openai.OpenAI(base_url=url, api_key="none", timeout=timeout, max_retries=0)
    key = _key(checked_variable(key_variable))
    if not key:
        raise ValueError(
            f"the environment variable {key_variable} is not set; export the key in it, or leave key_variable out for "
            "a server without keys"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the key in ${key_variable} has signs that no key has; copy it anew")
    return openai.OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=0)


def asked_wait(header: str | None) -> float:
    """Seconds of a Retry-After header, which has seconds or a date; 0 where there is none.

    >>> asked_wait("2.5"), asked_wait(None), asked_wait("soon")
    (2.5, 0.0, 0.0)
    """
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _words(error) -> str:
    """What a server says of an error, on one line."""
    body = error.body
    found = body.get("message") or body.get("detail") or body.get("error") if isinstance(body, dict) else body
    return " ".join(str(found or "").split())[:SHOWN]


def _shape(answer: object) -> str:
    if isinstance(answer, str):
        return f"text that begins {answer[:40]!r}"
    fields = answer.model_dump(warnings=False) if hasattr(answer, "model_dump") else {}
    names = ", ".join(sorted(fields))[:SHOWN]
    return f"an object with {names}" if names else type(answer).__name__


def _read(answer: object) -> Reply | None:
    """The reply of an answer, whatever else it has; None where it has none."""
    try:
        choice = answer.choices[0]
        text = choice.message.content
    except (AttributeError, TypeError, IndexError, KeyError):
        return None
    if text is not None and not isinstance(text, str):
        return None
    return Reply(
        (text or "").encode(errors="replace").decode(),
        str(getattr(choice, "finish_reason", None) or ""),
        _count(answer, "prompt_tokens"),
        _count(answer, "completion_tokens"),
        _first_token(choice),
    )


def _count(answer: object, name: str) -> int:
    value = getattr(getattr(answer, "usage", None), name, None)
    return value if isinstance(value, int) and value > 0 else 0


def _first_token(choice: object) -> dict[str, float]:
    try:
        first = choice.logprobs.content[0]
        listed = [*(first.top_logprobs or []), first]
        found = {}
        for each in listed:
            if isinstance(each.token, str) and -math.inf < float(each.logprob) <= 1e-6:
                found.setdefault(each.token, float(each.logprob))
    except (AttributeError, TypeError, IndexError, KeyError, ValueError):
        return {}
    return found
