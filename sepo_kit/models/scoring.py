"""How likely a model was to give replies: log-probabilities of every token, shared beginnings computed once.

The replies to one prompt begin alike, and so do the prompts of a game, so prompts and replies are laid out as token
trees (``prefix.py``), forward and backward. Only where a token is scored is the vocabulary multiplied, a few
positions at a time, and again in the backward pass, so that its logits are never held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sepo_kit.models.dropout import evaluating
from sepo_kit.models.prefix import TREE_TOKENS, Tree, batches, laid_out, shares_prefixes, trees, trunk_of
from sepo_kit.models.prefix_cache import Context, shared_length, tokens_in_all

PROBED = 64  # tokens, whatever they say, by which is seen whether anything comes after the head
LOGITS_AT_ONCE = 2**24  # 64 MB in float32

Said = tuple[Context, Context]  # a prompt, and a reply to it of at least one token


class Scored(NamedTuple):
    """Of N replies and their tokens, all shape (N, C), C = the longest reply, 0 beyond a reply's end: log-probabilities
    and entropies in nats, float32, and whether the token was the likeliest."""

    log_probs: Tensor
    entropies: Tensor
    likeliest: Tensor


def score_replies(
    model: nn.Module, said: Sequence[Said], temperature: float, *, tree_tokens: int = TREE_TOKENS
) -> Scored:
    """Log-probabilities and entropies of the tokens of replies.

    Parameters
    ----------
    model
        One for which ``scores_on_trees`` holds.
    said
        N prompts with their replies.
    temperature
        Divides the logits, > 0.

    Returns
    -------
    Scored
        Log-probabilities are differentiable with respect to the model's parameters where grad mode is on; entropies are
        not.
    """
    unique = sorted(set(said), key=lambda pair: (pair[0] + pair[1][:-1], pair))
    contexts = [prompt + reply[:-1] for prompt, reply in unique]
    shared = min(shared_length(contexts[0], contexts[-1]), min(len(prompt) for prompt, _ in unique) - 1)
    many = tokens_in_all(contexts) > tree_tokens  # what fits one tree takes one pass, and no trunk
    trunk = trunk_of(model, contexts[0][:shared]) if shared and many else []
    if not trunk:
        tree_tokens, shared = tree_tokens + shared, 0
    above = [context[shared:] for context in contexts]

    device = next(model.parameters()).device
    rows, columns, found = [], [], []
    first = 0
    for batch in batches(trees(above, tree_tokens)):
        count = sum(len(tree.paths) for tree in batch)
        members = unique[first : first + count]
        found.append(_score_trees(model, batch, members, shared, trunk, temperature))
        for number, (_, reply) in enumerate(members, first):
            rows += [number] * len(reply)
            columns += range(len(reply))
        first += count
    zeros = torch.zeros((len(unique), max(len(reply) for _, reply in unique)), device=device)
    at = torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)
    place = {pair: number for number, pair in enumerate(unique)}
    order = torch.as_tensor([place[pair] for pair in said], device=device)
    return Scored(*(zeros.index_put(at, torch.cat(parts))[order] for parts in zip(*found, strict=True)))


def passes(said: Sequence[Said], most: int, shares: bool = True) -> list[list[int]]:
    """Numbers of the replies that are scored together: runs of like ones that have ``most`` tokens or fewer, if one
    reply has not more.

    ``shares``: whether what replies begin with in common is read once; else only equal ones are.

    >>> said = [((1, 2), (3, 9)), ((1, 2), (4, 9)), ((7, 8), (3, 9))]
    >>> passes(said, most=4), passes(said, most=4, shares=False)
    ([[0, 1], [2]], [[0], [1], [2]])
    """
    order = sorted(range(len(said)), key=lambda row: said[row][0] + said[row][1])
    runs: list[list[int]] = []
    size, last = 0, ()
    for row in order:
        prompt, reply = said[row]
        context = prompt + reply[:-1]
        read = shared_length(last, context) if shares else len(context) * (context == last)
        new = len(context) - read
        if not runs or (size + new > most and new):
            runs.append([])
            size, new = 0, len(context)
        runs[-1].append(row)
        size, last = size + new, context
    return runs


def scores_on_trees(model: nn.Module) -> bool:
    """Whether ``score_replies`` can be used: every layer attends to all earlier tokens, and the logits are what the
    output embeddings make of the last hidden states, with nothing after it (soft caps, scales)."""
    if not shares_prefixes(model):
        return False
    body, head = _body_and_head(model)
    some = torch.arange(PROBED, device=next(model.parameters()).device)[None]
    ids = some % head.weight.shape[0]
    # A dropout that acts would make the two differ, and the draws it takes would be missed where a run goes on.
    with evaluating(model), torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        parts = head(body(input_ids=ids, use_cache=False).last_hidden_state)
    return bool(torch.allclose(whole.float(), parts.float(), rtol=1e-3, atol=1e-4))


def _body_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """What computes hidden states, and what makes logits of them; adapters stay in both."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model, inner.get_output_embeddings()


def _score_trees(
    model: nn.Module,
    batch: Sequence[Tree],
    said: Sequence[Said],
    shared: int,
    trunk: Sequence[tuple[Tensor, Tensor]],
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability and entropy of each token of ``said``, and whether it is the likeliest, 0 or 1; one reply after
    the other, all shape (tokens,)."""
    device = next(model.parameters()).device
    size = max(len(tree.tokens) for tree in batch)
    where, targets = [], []  # of each token: where its distribution stands, and which it is
    replies = iter(said)
    for row, tree in enumerate(batch):
        start = row * size + size - len(tree.tokens)
        for path in tree.paths:
            prompt, reply = next(replies)
            where.append(start + path[len(prompt) - 1 - shared :])
            targets += reply
    at, place = np.unique(np.concatenate(where), return_inverse=True)
    body, head = _body_and_head(model)
    hidden = body(**laid_out(batch, trunk, device), use_cache=bool(trunk)).last_hidden_state
    hidden = hidden.flatten(0, 1)[torch.as_tensor(at, device=device)]
    order = np.argsort(place, kind="stable")
    bounds = range(0, len(at), max(LOGITS_AT_ONCE // head.weight.shape[0], 1))
    found, certain, likeliest = [], [], []
    for first, last in zip(bounds, [*bounds[1:], len(at)], strict=True):
        tokens = order[(place[order] >= first) & (place[order] < last)]
        asked = (
            torch.as_tensor(place[tokens] - first, device=device),
            torch.as_tensor(np.array(targets)[tokens], device=device),
        )
        told: list[Tensor] = []
        part = (head, hidden[first:last], temperature, *asked, told)
        again = torch.is_grad_enabled()
        found.append(checkpoint(_chosen, *part, use_reentrant=False) if again else _chosen(*part))
        entropies, best = told
        certain.append(entropies[asked[0]])
        likeliest.append((best[asked[0]] == asked[1]).float())
    back = torch.as_tensor(np.argsort(order), device=device)
    return tuple(torch.cat(parts)[back] for parts in (found, certain, likeliest))


def _chosen(
    head: nn.Module, hidden: Tensor, temperature: float, rows: Tensor, tokens: Tensor, told: list[Tensor]
) -> Tensor:
    """Log-probabilities of ``tokens`` at ``rows`` of ``hidden``; ``told`` is given the entropies and
    likeliest tokens of all rows, once."""
    log_p = torch.log_softmax(head(hidden).float() / temperature, -1)
    if not told:  # not where it is computed again for the backward pass
        told += [torch.special.entr(log_p.detach().exp()).sum(-1), log_p.detach().argmax(-1)]
    return log_p[rows, tokens]
