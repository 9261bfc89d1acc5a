"""What a model has read, kept as keys and values: a context that continues an earlier one costs its new tokens only.

Round t + 1 of a game continues round t. A row holds one context with its token p in slot p, so a new context starts
from the row it shares most with, and writes over what it does not share.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Context = tuple[int, ...]

BYTES_AT_MOST = 2**31  # of keys and values
CALLS = 4  # of which something is kept


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
    """What ``model`` has read in its last calls. Its weights must stay as they are, and ``prefix.shares_prefixes`` must
    hold for it.

    What a call has read stays for a few calls more as long as one of its rows was not gone on from: a call may ask for
    the next tokens of some of the matches only, and the next for those of all.

    ``bytes_at_most``: of keys and values.
    """

    def __init__(self, model: torch.nn.Module, bytes_at_most: int = BYTES_AT_MOST) -> None:
        self.model = model
        self.bytes_at_most = bytes_at_most
        self._read_before: list[_Rows] = []  # by calls, the last first

    def fork(self) -> PrefixCache:
        """A cache that goes on from here and leaves this one as it is."""
        other = PrefixCache(self.model, self.bytes_at_most)
        other._read_before = list(self._read_before)
        return other

    def fits(self, contexts: Sequence[Context]) -> bool:
        """Whether there is room for ``contexts``."""
        return self._size(len(contexts), max(map(len, contexts))) <= self.bytes_at_most

    def _size(self, rows: int, longest: int) -> int:
        """Bytes of the keys and values of so many rows of so many tokens, and one slot for padding."""
        config = self.model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * width * next(self.model.parameters()).element_size()
        return token * rows * (longest + 1)

    @torch.no_grad()
    def logits(self, contexts: Sequence[Context]) -> Tensor:
        """Logits, shape (N, V), of what may follow each of the sorted, distinct ``contexts``.

        What all of them begin with is read once, and so is what an earlier call has read.
        """
        trunk = contexts[0][: shared_length(contexts[0], contexts[-1])]
        if len(contexts) > 1 and trunk and not self._read_before:
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
        last = self._read_before[0]
        row = bisect_left(last.contexts, context)
        return [
            (layer.keys[row, :, : len(context)], layer.values[row, :, : len(context)])
            for layer in last.layers
        ]

    def _read(self, rows: list[Context], ends: Sequence[Sequence[int]]) -> Tensor:
        """Put ``rows`` before those that were read before; the logits at their ``ends``, one after the other."""
        nearest = [self._nearest(row) for row in rows]
        starts = [min(shared, at[0] - 1) for (_, _, shared), at in zip(nearest, ends, strict=True)]
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

        place = self._tensor(slots)
        call, parent = (
            self._tensor(np.array(each)) for each in zip(*(at[:2] for at in nearest), strict=True)
        )
        into = [torch.nonzero(call == number)[:, 0] for number in range(len(self._read_before))]
        parts = [
            (before, at, parent[at]) for before, at in zip(self._read_before, into, strict=True) if len(at)
        ]
        layers = [
            _Slots([(before.layers[n], at, of) for before, at, of in parts], place, longest + 1)
            for n in range(self.model.config.get_text_config().num_hidden_layers)
        ]
        logits = self.model(
            input_ids=self._tensor(tokens),
            position_ids=place.where(place < longest, 0),
            attention_mask=self._tensor(visible)[:, None],
            cache=Cache(layers=layers),
            logits_to_keep=last_positions(-min(columns), fresh, place.device),
            use_cache=True,
        ).logits
        self._keep(_Rows(rows, layers, frozenset(range(len(rows)))), {at[:2] for at in nearest if at[2]})
        which = np.repeat(np.arange(len(rows)), [len(at) for at in ends])
        return logits[self._tensor(which), self._tensor(np.array(columns))]

    def _keep(self, last: _Rows, gone_on_from: set[tuple[int, int]]) -> None:
        """Put ``last`` before the calls of which a row still waits, as many as there is room for; ``gone_on_from``:
        calls and their rows."""
        before, self._read_before = self._read_before, [last]
        size = self._size(len(last.contexts), max(map(len, last.contexts)))
        for call, rows in enumerate(before):
            waiting = frozenset(row for row in rows.waiting if (call, row) not in gone_on_from)
            if not waiting:
                continue
            size += self._size(len(rows.contexts), max(map(len, rows.contexts)))
            if size > self.bytes_at_most or len(self._read_before) == CALLS:
                break
            self._read_before.append(replace(rows, waiting=waiting))

    def _nearest(self, context: Context) -> tuple[int, int, int]:
        """The call and its row that shares most with ``context``, and how many tokens."""
        found = (0, 0, 0)
        for call, rows in enumerate(self._read_before):
            place = bisect_left(rows.contexts, context)
            for row in range(max(place - 1, 0), min(place + 1, len(rows.contexts))):
                if (shared := shared_length(rows.contexts[row], context)) > found[2]:
                    found = (call, row, shared)
            if found[2] and found[2] == len(self._read_before[found[0]].contexts[found[1]]):
                break  # the whole of a row: it goes on from there
        return found

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=next(self.model.parameters()).device)


@dataclass(frozen=True)
class _Rows:
    """What one call has read: sorted ``contexts``, their ``layers``, and the rows that nobody has gone on from."""

    contexts: list[Context]
    layers: list[_Slots]
    waiting: frozenset[int]


class _Slots(DynamicLayer):
    """Keys and values of one layer, shape (rows, heads, slots, D), where tokens are written into given slots.

    ``parts``: of whom rows start as copies: an earlier layer, the numbers of the rows, and of those they copy;
    ``slots``, (B, T): where the next tokens go, of ``length``.
    """

    def __init__(self, parts: Sequence[tuple[_Slots, Tensor, Tensor]], slots: Tensor, length: int) -> None:
        super().__init__()
        self.parts, self._next, self._length = parts, slots, length

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.is_initialized = True
        self.keys = self._written([layer.keys for layer, _, _ in self.parts], key_states)
        self.values = self._written([layer.values for layer, _, _ in self.parts], value_states)
        self.parts = []  # or nothing would ever be let go of
        return self.keys, self.values

    def _written(self, before: Sequence[Tensor], new: Tensor) -> Tensor:
        rows, heads, _, width = new.shape
        slots = new.new_empty((rows, self._length, heads, width))
        kept = [min(each.shape[2], self._length) - 1 for each in before]
        slots[:, min(kept, default=0) :] = 0  # not read, but a NaN would spread
        for each, count, (_, into, of) in zip(before, kept, self.parts, strict=True):
            slots[into, :count] = each.transpose(1, 2)[of, :count]
        slots[torch.arange(rows, device=new.device)[:, None], self._next] = new.transpose(1, 2)
        return slots.transpose(1, 2)
