"""Every figure: data in, axes out. Nothing is computed here that a table does not already hold.

Colour-blind-safe colours, units on axes, intervals drawn. ``save`` writes the picture as PNG and SVG with its data
beside it as CSV.
"""

from sepo_kit.figures.credit import credit_curves, credit_ends, dual_ascent, gradient_cosines
from sepo_kit.figures.exploiters import exploiter_curves, exploiter_ends
from sepo_kit.figures.lab import payoff_and_penalty, safety_over_weights, safety_ranking, terms_over_weights
from sepo_kit.figures.look import label, save, style
from sepo_kit.figures.play import (
    agents_cross_play,
    cross_play,
    demonstration_counts,
    kuhn_frequencies,
    kuhn_policies,
)
from sepo_kit.figures.results import (
    pool_and_worst_case,
    safety_change,
    safety_change_beside_paper,
    safety_changes,
    stage_terms,
    worst_cases,
)
from sepo_kit.figures.rivals import STUDIES, ablation_ends, late_curves
from sepo_kit.figures.training import loss_curve, run_curves, training_curves
from sepo_kit.figures.wordings import in_other_words
from sepo_kit.figures.worst_case import (
    adversarys_lead,
    beside_equilibria,
    market,
    payoff_and_worst_case,
    self_play,
)

__all__ = [
    "style",
    "save",
    "label",
    "stage_terms",
    "worst_cases",
    "pool_and_worst_case",
    "safety_change",
    "safety_change_beside_paper",
    "safety_changes",
    "training_curves",
    "run_curves",
    "loss_curve",
    "cross_play",
    "agents_cross_play",
    "kuhn_policies",
    "kuhn_frequencies",
    "demonstration_counts",
    "gradient_cosines",
    "credit_curves",
    "credit_ends",
    "dual_ascent",
    "STUDIES",
    "ablation_ends",
    "late_curves",
    "exploiter_curves",
    "exploiter_ends",
    "safety_ranking",
    "payoff_and_penalty",
    "safety_over_weights",
    "terms_over_weights",
    "payoff_and_worst_case",
    "adversarys_lead",
    "beside_equilibria",
    "self_play",
    "market",
    "in_other_words",
]
