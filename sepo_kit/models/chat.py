"""What chat templates differ in: a role for the rules, switches for thinking, and the token that closes a reply."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sepo_kit.runs import first_line

RULES, SAID, REPLY = "RULES7", "SAID8", "PASS"  # what a template is tried with
PATIENCE = 10.0  # seconds for what comes with a model and may never end


@cache
def thinking_off(tokenizer) -> dict[str, bool]:
    """Arguments for ``apply_chat_template`` that keep a model from thinking before it replies; {} where its
    template has no such switch. Episodes have hundreds of decisions, and the reasons to be trained are in the reply."""
    return {"enable_thinking": False} if "enable_thinking" in str(tokenizer.chat_template) else {}


def end_of_reply(tokenizer) -> int | None:
    """The token that closes an assistant's message, which is not every tokenizer's end-of-text token (Gemma's)."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": ""}, {"role": "assistant", "content": REPLY}], tokenize=False
    )
    after = tokenizer.encode(text.rpartition(REPLY)[2].strip(), add_special_tokens=False)
    return after[0] if after and _is_special(tokenizer, after[0]) else tokenizer.eos_token_id


def _is_special(tokenizer, token: int) -> bool:
    """Whether a token is no text: by its name, or, where it has none (Phi-3's and Gemma 3's that closes a message), as
    it was added."""
    added = tokenizer.added_tokens_decoder.get(token)
    return token in tokenizer.all_special_ids or (added is not None and added.special)


def opening(tokenizer, rules: str, said: str) -> list[dict[str, str]]:
    """The messages before a reply: the rules in a message of the system, or, where the template knows no such role
    (Gemma 2, Mistral), at the head of the user's."""
    messages = with_system(rules, said)
    return messages if takes_system(tokenizer) else without_system(messages)


def with_system(rules: str, said: str) -> list[dict[str, str]]:
    """The messages before a reply: the rules in a message of the system, what was said in the user's."""
    return [{"role": "system", "content": rules}, {"role": "user", "content": said}]


def without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Those of ``with_system`` in one of the user's, the rules at its head."""
    return [{"role": "user", "content": "\n\n".join(message["content"] for message in messages)}]


def takes_system(tokenizer) -> bool:
    """Whether a tokenizer's template shows what a message of the system holds."""
    template = str(tokenizer.chat_template)
    if template not in _TAKE_SYSTEM:
        try:
            _TAKE_SYSTEM[template] = RULES in _rendered(tokenizer, with_system(RULES, SAID))
        except TimeoutError:
            raise
        except Exception:  # templates raise whatever they like
            _TAKE_SYSTEM[template] = False
    return _TAKE_SYSTEM[template]


_TAKE_SYSTEM: dict[str, bool] = {}  # by template


def require_template(tokenizer) -> None:
    """Try a tokenizer's chat template with a short talk.

    Raises
    ------
    ValueError
        The template fails, does not end, or leaves out what was said.
    """
    try:
        with within(PATIENCE):
            asked = opening(tokenizer, RULES, SAID)
            prompt = _rendered(tokenizer, asked)
            whole = _rendered(tokenizer, [*asked, {"role": "assistant", "content": REPLY}], False)
    except Exception as error:
        raise ValueError(f"its chat template fails: {first_line(error)}") from error
    lost = [text for text in (RULES, SAID) if text not in prompt] + [REPLY] * (REPLY not in whole)
    if lost:
        raise ValueError(f"its chat template leaves out what was said: {', '.join(lost)} of a message")


def _rendered(tokenizer, messages: list[dict[str, str]], asks: bool = True) -> str:
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=asks, tokenize=False, **thinking_off(tokenizer)
    )


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """TimeoutError in a block of Python, or of a regular expression, that takes longer. Only in a main thread, where
    the system's timer may be used."""
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"it has not come to an end in {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
