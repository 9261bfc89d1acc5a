"""Gradients seen from a language model's parameters: what a table's logits are to the exact solver, log-probabilities
of direct replies are to a model, so a gradient in logits becomes one in parameters by the chain rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sepo_kit.games.base import InformationState
from sepo_kit.models.language_model import LanguageModel


def log_probabilities(agent: LanguageModel, seen: Sequence[InformationState]) -> torch.Tensor:
    """Log-probability of every legal action at every state, one after the other, shape (P,); differentiable."""
    trees = [agent.prompts.reply_tree(state.legal_actions) for state in seen]
    asked = [
        (agent.prompts.ids(state) + prefix, tokens)
        for state, tree in zip(seen, trees, strict=True)
        for prefix, tokens in tree.branches.items()
    ]
    rows = iter(agent.log_probs_of_branches(asked, grad=True))
    certain = torch.zeros((), device=agent.model.device)  # where one action is legal
    found = []
    for tree in trees:
        branches = {
            prefix: dict(zip(tokens, next(rows), strict=False)) for prefix, tokens in tree.branches.items()
        }
        found += [
            sum(
                (branches[reply[:n]][token] for n, token in enumerate(reply) if reply[:n] in branches),
                certain,
            )
            for reply in tree.replies
        ]
    return torch.stack(found)


def inner_products(agent: LanguageModel, seen: Sequence[InformationState]) -> np.ndarray:
    """Inner products of the gradients of ``log_probabilities`` in the trained parameters, shape (P, P).

    With it as the metric, two gradients in logits have the length and the angle that they have in the parameters:
    the one in parameters is their sum over actions and states times the gradients of the log-probabilities.

    Raises
    ------
    ValueError
        No parameter of the model is being trained.
    """
    trained = [p for p in agent.model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(f"no parameter of {agent.name} is being trained; give it a LoRA adapter first")
    rows = []
    for one in log_probabilities(agent, seen):
        if one.requires_grad:
            found = torch.autograd.grad(one, trained, retain_graph=True, allow_unused=True)
        else:
            found = [None] * len(trained)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for p, g in zip(trained, found, strict=True)
                ]
            )
        )
    jacobian = torch.stack(rows).cpu().double()  # (P, parameters)
    return (jacobian @ jacobian.T).numpy()
