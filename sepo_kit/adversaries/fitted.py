"""The fitted adversary, beside all the others: how it is found is told in ``exact/fitted.py``, since bounds use it as
well; what it gains is measured in ``gain.py``.
"""

from sepo_kit.adversaries.gain import Gain, measured_gain
from sepo_kit.exact.fitted import explored, fit_adversary, fitted

__all__ = ["Gain", "explored", "fit_adversary", "fitted", "measured_gain"]
