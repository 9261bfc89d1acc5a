"""Next-token logits of many contexts, shared prefixes computed once.

The prompts of a game repeat: the rules are the same in all, and round t + 1 continues round t. The contexts
are laid out as token trees, each token attending to its own ancestors only. Where a model
cannot do that (sliding windows, linear attention), equal contexts are computed once in padded batches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from sepo_kit.models.prefix_cache import Context, PrefixCache, last_positions, shared_length, tokens_in_all

# Tokens of one tree. Larger ones repeat less of what contexts share, but attention grows with the square. Measured with
# pico and SmolLM2: at 192 SmolLM2's steps take a third longer, at 768 they gain nothing; pico's take as long.
TREE_TOKENS = 384
BATCH_TOKENS = 4096  # tokens of one batch, padding included


def allowed_logits(
    model: torch.nn.Module,
    contexts: Sequence[Context],
    allowed: Sequence[Sequence[int]],
    *,
    pad_token_id: int = 0,
    tree_tokens: int = TREE_TOKENS,
    cache: PrefixCache | None = None,
) -> Tensor:
    """Logits of the tokens that may follow each context.

    Parameters
    ----------
    contexts
        N token sequences, each at least one token long; equal ones are computed once.
    allowed
        For each context the ids of the tokens wanted, at least one.
    cache
        What ``model`` has read before; not where a gradient is wanted.

    Returns
    -------
    Tensor
        Shape (N, K), K = the most tokens allowed anywhere, -inf where a row has fewer; float32;
        differentiable with respect to the model's parameters.
    """
    if cache is not None and (cache.model is not model or torch.is_grad_enabled()):
        raise ValueError("a PrefixCache has no gradients and belongs to one model; score without it")
    device = next(model.parameters()).device
    unique = sorted(set(contexts))
    place = {context: row for row, context in enumerate(unique)}
    width = max(len(tokens) for tokens in allowed)
    index = np.zeros((len(contexts), width), dtype=np.int64)
    valid = np.zeros((len(contexts), width), dtype=bool)
    for row, tokens in enumerate(allowed):
        index[row, : len(tokens)] = tokens
        valid[row, : len(tokens)] = True
    rows = np.array([place[context] for context in contexts])

    result = torch.full((len(contexts), width), -torch.inf, device=device)
    first = 0
    for logits in _logits_of_sorted(model, unique, pad_token_id, tree_tokens, cache):
        members = np.flatnonzero((rows >= first) & (rows < first + len(logits)))
        at = torch.as_tensor(members, device=device)
        picked = logits[
            torch.as_tensor(rows[members] - first, device=device)[:, None],
            torch.as_tensor(index[members], device=device),
        ].float()
        mask = torch.as_tensor(valid[members], device=device)
        result = result.index_copy(0, at, picked.masked_fill(~mask, -torch.inf))
        first += len(logits)
    return result


def _logits_of_sorted(
    model: torch.nn.Module,
    contexts: Sequence[Context],
    pad_token_id: int,
    tree_tokens: int,
    cache: PrefixCache | None,
) -> Iterator[Tensor]:
    """Logits, shape (n, V), of consecutive runs of ``contexts``."""
    if cache is not None and shares_prefixes(model) and cache.fits(contexts):
        yield cache.logits(contexts)
    elif shares_prefixes(model):
        yield from _forest_logits(model, contexts, tree_tokens)
    else:
        yield from _padded_logits(model, contexts, pad_token_id)


def shares_prefixes(model: torch.nn.Module) -> bool:
    """Whether every layer attends to all earlier tokens, so that a token tree can be computed at once."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    implementation = getattr(config, "_attn_implementation", "eager")
    # Others take no boolean mask of this form: eager attention would add it to the scores.
    return set(layers) == {"full_attention"} and not windowed and implementation == "sdpa"


# --- token trees ----------------------------------------------------------------------------------


@dataclass
class Tree:
    """A run of contexts as one sequence of N tokens.

    ``tokens``, ``positions``: shape (N,); ``visible``: shape (N, N), which tokens each one attends to;
    ``paths``: n arrays, where the tokens of each context lie.
    """

    tokens: np.ndarray
    positions: np.ndarray
    visible: np.ndarray
    paths: list[np.ndarray]

    @property
    def ends(self) -> np.ndarray:
        """Where each context ends, shape (n,)."""
        return np.array([path[-1] for path in self.paths])


def trees(contexts: Sequence[Context], limit: int) -> Iterator[Tree]:
    """Cut sorted ``contexts`` into trees of at most ``limit`` tokens (more for one long context): as few as that takes,
    and of about the same size, since in a batch all are padded to the longest."""
    shared = [shared_length(before, context) for before, context in pairwise([(), *contexts])]
    lengths = [len(context) for context in contexts]
    count = len(_cuts(lengths, shared, limit))
    limit = bisect_left(range(limit), True, key=lambda size: len(_cuts(lengths, shared, size)) <= count)
    for first, end in pairwise([*_cuts(lengths, shared, limit), len(contexts)]):
        yield _grow(contexts[first:end], [0, *shared[first + 1 : end]])


def _cuts(lengths: Sequence[int], shared: Sequence[int], limit: int) -> list[int]:
    """Where new trees begin; ``shared``: how much each context has in common with the one before."""
    begins: list[int] = []
    size = 0
    for number, (length, common) in enumerate(zip(lengths, shared, strict=True)):
        size += length - common
        if size > limit or not begins:
            begins.append(number)
            size = length
    return begins


def _grow(run: Sequence[Context], shares: Sequence[int]) -> Tree:
    """The tree of a run of contexts, each with the length that it shares with the one before."""
    size = sum(map(len, run)) - sum(shares)
    tokens = np.empty(size, dtype=np.int64)
    positions = np.empty(size, dtype=np.int64)
    visible = np.zeros((size, size), dtype=bool)
    paths = []
    path = np.empty(0, dtype=np.int64)  # where the tokens of the current context lie
    used = 0
    for context, shared in zip(run, shares, strict=True):
        new = np.arange(used, used + len(context) - shared)
        tokens[new] = context[shared:]
        positions[new] = np.arange(shared, len(context))
        path = np.concatenate([path[:shared], new])
        if len(new):
            visible[np.ix_(new, path[:shared])] = True
            visible[used : used + len(new), used : used + len(new)] = np.tri(len(new), dtype=bool)
        used += len(new)
        paths.append(path)
    return Tree(tokens, positions, visible, paths)


def batches(trees: Iterator[Tree]) -> Iterator[list[Tree]]:
    """Runs of ``trees`` that fill a batch."""
    batch: list[Tree] = []
    longest = 0
    for tree in trees:
        longest = max(longest, len(tree.tokens))
        if batch and longest * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch, longest = [], len(tree.tokens)
        batch.append(tree)
    if batch:
        yield batch


def _forest_logits(model: torch.nn.Module, contexts: Sequence[Context], limit: int) -> Iterator[Tensor]:
    """Logits of sorted, distinct ``contexts``: one tree, or what all begin with once and many trees on top of it."""
    if len(contexts) == 1 or tokens_in_all(contexts) <= limit:
        yield _tree_logits(model, list(trees(contexts, limit)))
        return
    shared = min(shared_length(contexts[0], contexts[-1]), len(contexts[0]) - 1)
    trunk = trunk_of(model, contexts[0][:shared]) if shared else []
    above = [context[shared:] for context in contexts] if trunk else contexts
    for batch in batches(trees(above, limit)):
        yield _tree_logits(model, batch, trunk)


def trunk_of(model: torch.nn.Module, tokens: Context) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer, shape (1, heads, N, D), of the N ``tokens`` that all contexts begin with; none
    where the model keeps none, as when it trains under gradient checkpointing."""
    if model.training and checkpoints_gradients(model):
        return []
    device = next(model.parameters()).device
    cache = DynamicCache()
    model(
        input_ids=torch.as_tensor(tokens, device=device)[None],
        cache=cache,
        logits_to_keep=1,
        use_cache=True,
    )
    return [(layer.keys, layer.values) for layer in cache.layers]


def checkpoints_gradients(model: torch.nn.Module) -> bool:
    """Whether ``model`` computes its layers again for the backward pass."""
    return any(getattr(part, "gradient_checkpointing", False) for part in model.modules())


def _tree_logits(
    model: torch.nn.Module,
    batch: Sequence[Tree],
    trunk: Sequence[tuple[Tensor, Tensor]] = (),
) -> Tensor:
    """Logits, shape (n, V), of the contexts of ``batch``, whose trees stand on ``trunk``.

    The mask alone says who attends to whom, so the tokens of a tree may stand in any order: those whose logits are
    wanted stand last, in as many columns for all trees.
    """
    device = next(model.parameters()).device
    size = max(len(tree.tokens) for tree in batch)
    rows, columns, orders = [], [], []
    for row, tree in enumerate(batch):
        ends, place = np.unique(tree.ends, return_inverse=True)
        orders.append(np.concatenate([np.setdiff1d(np.arange(len(tree.tokens)), ends), ends]))
        rows += [row] * len(place)
        columns += (place - len(ends)).tolist()
    logits = model(
        **laid_out(batch, trunk, device, orders),
        logits_to_keep=last_positions(-min(columns), size, device),
        use_cache=bool(trunk),
    ).logits
    return logits[torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)]


def laid_out(
    batch: Sequence[Tree],
    trunk: Sequence[tuple[Tensor, Tensor]],
    device: torch.device,
    orders: Sequence[np.ndarray] | None = None,
) -> dict[str, Tensor | DynamicCache | None]:
    """What a model must be given to read ``batch``, aligned at the right, whose trees stand on ``trunk``.

    ``orders``: for each tree the order in which its tokens stand, default their own.
    """
    size = max(len(tree.tokens) for tree in batch)
    below = trunk[0][0].shape[2] if trunk else 0
    tokens = np.zeros((len(batch), size), dtype=np.int64)
    positions = np.zeros((len(batch), size), dtype=np.int64)
    visible = np.zeros((len(batch), size, below + size), dtype=bool)
    visible[:, :, :below] = True
    visible[:, np.arange(size), below + np.arange(size)] = True
    for row, tree in enumerate(batch):
        order = np.arange(len(tree.tokens)) if orders is None else orders[row]
        start = size - len(order)
        tokens[row, start:] = tree.tokens[order]
        positions[row, start:] = below + tree.positions[order]
        visible[row, start:, below + start :] = tree.visible[np.ix_(order, order)]
    cache = DynamicCache() if trunk else None
    for number, parts in enumerate(trunk):
        cache.update(*(part.expand(len(batch), -1, -1, -1) for part in parts), number)
    return {
        "input_ids": torch.as_tensor(tokens, device=device),
        "position_ids": torch.as_tensor(positions, device=device),
        "attention_mask": torch.as_tensor(visible, device=device)[:, None],
        "cache": cache,
    }


# --- padded batches -------------------------------------------------------------------------------


def _padded_logits(
    model: torch.nn.Module, contexts: Sequence[Context], pad_token_id: int
) -> Iterator[Tensor]:
    device = next(model.parameters()).device
    start = 0
    while start < len(contexts):
        stop, longest = start, 0
        while stop < len(contexts):
            longest = max(longest, len(contexts[stop]))
            if stop > start and longest * (stop - start + 1) > BATCH_TOKENS:
                break
            stop += 1
        batch = contexts[start:stop]
        longest = max(len(context) for context in batch)
        ids = np.full((len(batch), longest), pad_token_id, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, context in enumerate(batch):
            ids[row, longest - len(context) :] = context
            mask[row, longest - len(context) :] = 1
        yield model(
            input_ids=torch.as_tensor(ids, device=device),
            attention_mask=torch.as_tensor(mask, device=device),
            position_ids=torch.as_tensor((mask.cumsum(1) - 1).clip(0), device=device),
            logits_to_keep=last_positions(1, longest, device),
            use_cache=False,
        ).logits[:, -1]
        start = stop
