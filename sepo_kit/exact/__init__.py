"""The numbers of the objective without sampling: terms, gradient, best response, bounds, the reference policy.

This is ``sk.exact``. Works for any agent that can state a distribution over the legal actions; loads no torch.
"""

from sepo_kit.exact.ascent import Optimum, optimise
from sepo_kit.exact.best_response import WorstCase, worst_case
from sepo_kit.exact.bounds import WorstCaseBounds, worst_case_bounds
from sepo_kit.exact.enumeration import (
    advantages_over,
    against,
    each_against,
    information_states,
    policy_table,
    results,
    terms,
)
from sepo_kit.exact.gradients import GradientParts, gradient, gradient_parts
from sepo_kit.exact.likely import likely_best_response
from sepo_kit.exact.tree import MAX_STATES, Forgets, TooLarge, Unsolvable

__all__ = [
    "MAX_STATES",
    "Forgets",
    "GradientParts",
    "Optimum",
    "TooLarge",
    "Unsolvable",
    "WorstCase",
    "WorstCaseBounds",
    "advantages_over",
    "against",
    "each_against",
    "gradient",
    "gradient_parts",
    "information_states",
    "likely_best_response",
    "optimise",
    "policy_table",
    "results",
    "terms",
    "worst_case",
    "worst_case_bounds",
]
