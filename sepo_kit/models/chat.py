"""What chat templates differ in: switches for thinking, and the token that closes a reply."""

from __future__ import annotations

from functools import cache


@cache
def thinking_off(tokenizer) -> dict[str, bool]:
    """Arguments for ``apply_chat_template`` that keep a model from thinking before it replies; {} where its
    template has no such switch. Episodes have hundreds of decisions, and the reasons to be trained are in the reply."""
    return {"enable_thinking": False} if "enable_thinking" in str(tokenizer.chat_template) else {}


def end_of_reply(tokenizer) -> int:
    """The token that closes an assistant's message, which is not every tokenizer's end-of-text token (Gemma's)."""
    mark = "PASS"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": ""}, {"role": "assistant", "content": mark}], tokenize=False
    )
    after = tokenizer.encode(text.rpartition(mark)[2].strip(), add_special_tokens=False)
    special = after and after[0] in tokenizer.all_special_ids
    return after[0] if special else tokenizer.eos_token_id
