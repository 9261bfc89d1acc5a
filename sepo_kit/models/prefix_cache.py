"""What a model has read, kept as keys and values: a context that continues an earlier one costs its new tokens only.

Round t + 1 of a game continues round t. A row holds one context with its token p in slot p, so a new context starts
from the row it shares most with, and writes over what it does not share.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from copy import copy
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Context = tuple[int, ...]

BYTES_AT_MOST = 2**31  # of keys and values


def shared_length(first: Context, second: Context) -> int:
    """How many tokens two contexts have in common from the start."""
    shared, beyond = 0, min(len(first), len(second)) + 1
    while beyond - shared > 1:  # slices are compared faster than tokens
        middle = (shared + beyond) // 2
        if first[shared:middle] == second[shared:middle]:
            shared = middle
        else:
            beyond = middle
    return shared


def tokens_in_all(contexts: Sequence[Context]) -> int:
    """How many tokens sorted ``contexts`` have, those that they begin with in common counted once.

    >>> tokens_in_all([(1, 2, 3), (1, 2, 4, 5)])
    5
    """
    return sum(len(context) - shared_length(before, context) for before, context in pairwise([(), *contexts]))


def last_positions(count: int, length: int, device: torch.device) -> Tensor:
    """The last ``count`` of ``length`` positions, as ``logits_to_keep``. Given a number, transformers would multiply a
    slice of a batch with the vocabulary, for which a CPU takes up to a hundred times as long."""
    return torch.arange(length - count, length, device=device)


class PrefixCache:
    """What ``model`` has read last. Its weights must stay as they are, and ``prefix.shares_prefixes`` must hold for it.

    ``bytes_at_most``: of keys and values.
    """

    def __init__(self, model: torch.nn.Module, bytes_at_most: int = BYTES_AT_MOST) -> None:
        self.model = model
        self.bytes_at_most = bytes_at_most
        self._rows: list[Context] = []  # sorted
        self._layers: list[_Slots] = []

    def fork(self) -> PrefixCache:
        """A cache that goes on from here and leaves this one as it is."""
        other = PrefixCache(self.model, self.bytes_at_most)
        other._rows = self._rows
        other._layers = [copy(layer) for layer in self._layers]  # a layer never writes into what it holds
        return other

    def fits(self, contexts: Sequence[Context]) -> bool:
        """Whether there is room for ``contexts``."""
        config = self.model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * width * next(self.model.parameters()).element_size()
        slots = max(map(len, contexts)) + 1  # one for padding
        return token * len(contexts) * slots <= self.bytes_at_most

    @torch.no_grad()
    def logits(self, contexts: Sequence[Context]) -> Tensor:
        """Logits, shape (N, V), of what may follow each of the sorted, distinct ``contexts``.

        What all of them begin with is read once, and so is what an earlier call has read.
        """
        trunk = contexts[0][: shared_length(contexts[0], contexts[-1])]
        if len(contexts) > 1 and trunk and not self._rows:
            self._read([trunk], [[len(trunk)]])
        rows: list[Context] = []
        ends: list[list[int]] = [[]]  # of each row, where contexts end
        for context, following in zip(contexts, [*contexts[1:], ()], strict=True):
            ends[-1].append(len(context))
            if following[: len(context)] != context:
                rows.append(context)
                ends.append([])
        return self._read(rows, ends[:-1])

    def keys_and_values(self, context: Context) -> list[tuple[Tensor, Tensor]]:
        """Of every layer, each of shape (heads, len(context), D); ``context`` is one that was last asked for."""
        row = bisect_left(self._rows, context)
        return [
            (layer.keys[row, :, : len(context)], layer.values[row, :, : len(context)])
            for layer in self._layers
        ]

    def _read(self, rows: list[Context], ends: Sequence[Sequence[int]]) -> Tensor:
        """Put ``rows`` in the place of those before; the logits at their ``ends``, one after the other."""
        nearest = [self._nearest(row) for row in rows]
        starts = [min(shared, at[0] - 1) for (_, shared), at in zip(nearest, ends, strict=True)]
        longest = max(map(len, rows))
        fresh = max(len(row) - start for row, start in zip(rows, starts, strict=True))
        # Aligned at the right. Padding on the left goes into a slot of its own that nobody reads.
        tokens = np.zeros((len(rows), fresh), dtype=np.int64)
        slots = np.full((len(rows), fresh), longest)
        for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
            tokens[number, fresh - len(row) + start :] = row[start:]
            slots[number, fresh - len(row) + start :] = np.arange(start, len(row))
        up_to = np.where(slots < longest, slots, 0)
        visible = np.arange(longest + 1) <= up_to[:, :, None]  # (B, fresh, slots)
        columns = [end - len(row) - 1 for row, at in zip(rows, ends, strict=True) for end in at]

        parents = self._tensor(np.array([parent for parent, _ in nearest]))
        place = self._tensor(slots)
        if not self._layers:
            self._layers = [_Slots() for _ in range(self.model.config.get_text_config().num_hidden_layers)]
        for layer in self._layers:
            layer.take(parents, place, longest + 1)
        try:
            logits = self.model(
                input_ids=self._tensor(tokens),
                position_ids=place.where(place < longest, 0),
                attention_mask=self._tensor(visible)[:, None],
                cache=Cache(layers=self._layers),
                logits_to_keep=last_positions(-min(columns), fresh, place.device),
                use_cache=True,
            ).logits
        except BaseException:
            self._rows, self._layers = [], []  # some layers hold the new rows, others those before
            raise
        self._rows = rows
        which = np.repeat(np.arange(len(rows)), [len(at) for at in ends])
        return logits[self._tensor(which), self._tensor(np.array(columns))]

    def _nearest(self, context: Context) -> tuple[int, int]:
        """The row that shares most with ``context``, and how many tokens."""
        place = bisect_left(self._rows, context)
        beside = range(max(place - 1, 0), min(place + 1, len(self._rows)))
        shared = {row: shared_length(self._rows[row], context) for row in beside}
        return max(shared.items(), key=lambda pair: pair[1], default=(0, 0))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=next(self.model.parameters()).device)


class _Slots(DynamicLayer):
    """Keys and values of one layer, shape (rows, heads, slots, D), where tokens are written into given slots."""

    def take(self, parents: Tensor, slots: Tensor, length: int) -> None:
        """Start the next rows from copies of ``parents``, shape (B,); the next tokens go to ``slots``, (B, T)."""
        self._next, self._length = slots, length
        self._parents = parents

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        old = (self.keys, self.values) if self.is_initialized else (None, None)
        self.is_initialized = True
        self.keys, self.values = (
            self._written(before, new) for before, new in zip(old, (key_states, value_states), strict=True)
        )
        return self.keys, self.values

    def _written(self, before: Tensor | None, new: Tensor) -> Tensor:
        rows, heads, _, width = new.shape
        slots = new.new_empty((rows, self._length, heads, width))
        kept = 0 if before is None else min(before.shape[2], self._length) - 1
        if kept:
            slots[:, :kept] = before.transpose(1, 2)[self._parents, :kept]
        slots[:, kept:] = 0  # not read, but a NaN would spread
        slots[torch.arange(rows, device=new.device)[:, None], self._next] = new.transpose(1, 2)
        return slots.transpose(1, 2)
