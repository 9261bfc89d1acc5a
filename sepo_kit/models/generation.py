"""Replies sampled token by token, for many prompts at once, and the same ones as for each prompt alone.

Equal prompts are computed once, and so is what all prompts begin with. Replies to one prompt are one row for as long as
they are the same: a model that was trained on a few sentences says them again and again. Every reply draws from
uniform numbers of its own by inverse CDF, so that who else is in the batch changes nothing but rounding; rows whose
replies have ended leave it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from sepo_kit.models.prefix_cache import Context, PrefixCache

CACHED_TOKENS = 16_384  # of prompts and replies: what is computed at a time
SHRINK = 0.75  # the share of rows still talking at which the others leave: leaving means copying what stays


@torch.no_grad()
def sample_replies(
    model: torch.nn.Module,
    prompts: Sequence[Context],
    uniforms: np.ndarray,
    *,
    temperature: float,
    end: int,
    kept: PrefixCache | None = None,
) -> list[list[int]]:
    """One reply per prompt.

    Parameters
    ----------
    model
        One whose layers attend to all earlier tokens (``prefix.shares_prefixes``).
    uniforms
        Shape (N, T), in [0, 1): the draws of each row, T = the longest reply.
    end
        The token that closes a reply; the last of every reply that was not cut off.
    kept
        What ``model`` has read before; it goes on from there.

    Raises
    ------
    FloatingPointError
        The logits are not finite.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    if not prompts:
        return replies
    if kept is None:
        kept = PrefixCache(model)
    together = _Prompts(kept, prompts) if kept.fits(set(prompts)) else None
    for rows in _batches(prompts, uniforms.shape[1]):
        asked = [prompts[row] for row in rows]
        distinct = sorted(set(asked))
        batch = _Batch(model, distinct, together or _Prompts(PrefixCache(model), asked), uniforms.shape[1])
        place = np.array([bisect_left(distinct, prompt) for prompt in asked])  # of each reply in the batch
        for number, draws in enumerate(uniforms.T, start=1):
            tokens = _draw(batch.logits / temperature, place, draws[rows])
            for row, token in zip(rows, tokens, strict=True):
                replies[row].append(int(token))
            talking = tokens != end
            if number == uniforms.shape[1] or not talking.any():
                break
            rows = rows[talking]
            (parents, following), place = np.unique(
                np.stack([place[talking], tokens[talking]]), axis=1, return_inverse=True
            )
            place = batch.go_on(parents, following)[place]
    return replies


class BrokenLogits(FloatingPointError):
    """What a model says is no number."""


def _batches(prompts: Sequence[Context], longest_reply: int) -> Iterator[np.ndarray]:
    """Numbers of the prompts that are computed together, those of like length."""
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row])):
        if batch and (len(prompts[row]) + longest_reply) * (len(batch) + 1) > CACHED_TOKENS:
            yield np.array(batch)
            batch = []
        batch.append(row)
    if batch:
        yield np.array(batch)


def _draw(logits: Tensor, rows: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """A token for each of N ``uniforms`` by inverse CDF, from the row of ``logits``, shape (R, V), that it has in
    ``rows``: shape (N,)."""
    chances = torch.softmax(logits.float(), -1)
    if chances.device.type == "mps":  # has no float64
        chances = chances.cpu()
    cumulative = chances.double().cumsum(-1)
    total = cumulative[:, -1:]
    if not torch.isfinite(total).all():
        raise BrokenLogits("the logits of a reply are not finite; the model's weights are broken")
    at = torch.as_tensor(rows, device=cumulative.device)
    wanted = torch.as_tensor(uniforms, device=cumulative.device)[:, None] * total[at]
    found = torch.searchsorted(cumulative[at], wanted, right=True)[:, 0]
    return found.clamp(max=logits.shape[1] - 1).cpu().numpy()


class _Prompts:
    """Prompts that ``cache`` has read, each one once."""

    def __init__(self, cache: PrefixCache, prompts: Sequence[Context]) -> None:
        self.cache = cache
        self.unique = sorted(set(prompts))
        self.logits = cache.logits(self.unique)


class _Batch:
    """R different rows that are being continued, aligned at the right; ``logits``, shape (R, V), of what comes next."""

    def __init__(
        self, model: torch.nn.Module, prompts: Sequence[Context], read: _Prompts, longest_reply: int
    ) -> None:
        self.model = model
        self.device = read.logits.device
        self.lengths = np.array([len(prompt) for prompt in prompts])  # (R,), padding not counted
        width = int(self.lengths.max())
        self.seen = np.arange(width) >= (width - self.lengths)[:, None]  # (R, width): not padding
        self.logits = read.logits[self._tensor([bisect_left(read.unique, prompt) for prompt in prompts])]
        rooms: list[_Room] = []
        for row, prompt in enumerate(prompts):
            layers = read.cache.keys_and_values(prompt)
            rooms = rooms or [
                _Room(keys, values, len(prompts), width, longest_reply) for keys, values in layers
            ]
            for room, (keys, values) in zip(rooms, layers, strict=True):
                room.keys[row, :, width - len(prompt) :] = keys
                room.values[row, :, width - len(prompt) :] = values
        self.cache = Cache(layers=rooms)

    def go_on(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Continue the rows ``parents``, ascending, each by its token: one that is there several times parts into as
        many rows, one that is not there has ended. Where each then stands, shape (N,)."""
        rows = len(self.lengths)
        parted = len(np.unique(parents)) < len(parents)
        if parted or SHRINK * rows >= len(parents) != rows:
            self.keep(parents)
            parents, rows = np.arange(len(parents)), len(parents)
        given = np.zeros(rows, dtype=tokens.dtype)
        given[parents] = tokens
        self.append(given)
        return parents

    def append(self, tokens: np.ndarray) -> None:
        """Continue every row by its token; ``tokens`` has shape (R,)."""
        self.seen = np.pad(self.seen, ((0, 0), (0, 1)), constant_values=True)
        # Without padding there is no mask, and attention has a quicker way.
        mask = None if self.seen.all() else self.seen[:, None, None]
        self.logits = self.model(
            input_ids=self._tensor(tokens[:, None]),
            position_ids=self._tensor(self.lengths[:, None]),
            attention_mask=None if mask is None else self._tensor(mask),
            cache=self.cache,
            logits_to_keep=1,
            use_cache=True,
        ).logits[:, -1]
        self.lengths = self.lengths + 1

    def keep(self, rows: np.ndarray) -> None:
        """Go on with ``rows``, shape (N,), some of them perhaps several times."""
        self.lengths, self.seen = self.lengths[rows], self.seen[rows]
        for room in self.cache.layers:
            room.keep(self._tensor(rows))

    def _tensor(self, array) -> Tensor:
        return torch.as_tensor(array, device=self.device)


class _Room(DynamicLayer):
    """Keys and values of one layer with room for what is to come, so that a token does not copy all before it."""

    def __init__(self, keys: Tensor, values: Tensor, rows: int, filled: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._keys, self._values = (
            part.new_zeros((rows, part.shape[0], filled + room, part.shape[2])) for part in (keys, values)
        )
        self._show(filled)

    def _show(self, filled: int) -> None:
        self.keys, self.values = self._keys[:, :, :filled], self._values[:, :, :filled]

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        self._keys[:, :, start:stop] = key_states
        self._values[:, :, start:stop] = value_states
        self._show(stop)
        return self.keys, self.values

    def keep(self, rows: Tensor) -> None:
        filled = self.get_seq_length()
        self._keys, self._values = self._keys[rows], self._values[rows]
        self._show(filled)
