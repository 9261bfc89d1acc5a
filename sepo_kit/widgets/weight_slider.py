"""A slider for one penalty weight, on a linear or a logarithmic scale."""

from __future__ import annotations

import ipywidgets as widgets
import traitlets

from sepo_kit.figures.lab import LOG_RANGE, MOST, SYMBOLS

# The preferred numbers of electrical engineering (IEC 60063, E24): 24 even steps a decade, and round.
E24 = (1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.7, 3.0,
       3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6, 6.2, 6.8, 7.5, 8.2, 9.1)  # fmt: skip
LOG_STEPS = (0.0, *(round(n * 10.0**d, 4) for d in (-2, -1, 0, 1) for n in E24), LOG_RANGE[1])
STEP = 0.05


class WeightSlider(widgets.HBox):
    """``value`` is the weight, >= 0; ``log_scale`` says which of two sliders shows it. Arrow keys move it by a step.

    The linear scale ends at 10, or at a greater ``value`` that it is given; the logarithmic one at 100. Changing over
    takes the nearest value the new scale has.
    """

    value = traitlets.Float()
    log_scale = traitlets.Bool(False)

    def __init__(self, name: str, value: float) -> None:
        look = {
            "description": f"{name} {SYMBOLS[name]}",
            "style": {"description_width": "7.5em"},  # the same for all, so that they stand below each other
            "layout": widgets.Layout(width="auto", flex="1 1 auto"),
        }
        self.linear = widgets.FloatSlider(
            min=0, max=max(MOST, value), step=STEP, readout_format=".2f", **look
        )
        self.steps = widgets.SelectionSlider(options=[(f"{step:g}", step) for step in LOG_STEPS], **look)
        super().__init__([self.linear], layout=widgets.Layout(flex="1 1 100%", max_width="44em"))
        self.add_class(f"sepo-weight-{name}")
        self.value = value
        self._show()
        self.linear.observe(self._moved, "value")
        self.steps.observe(self._moved, "value")
        self.observe(self._set, "value")
        self.observe(self._changed_over, "log_scale")

    @property
    def shown(self) -> widgets.Widget:
        """The slider that is seen."""
        return self.steps if self.log_scale else self.linear

    def _moved(self, change) -> None:
        if change.owner is self.shown:
            self.value = change.new

    def _set(self, change) -> None:
        if not self.log_scale and change.new > self.linear.max:
            self.linear.max = change.new
        if self.shown.value != change.new:
            self._show()

    def _changed_over(self, change) -> None:
        self._show()
        self.children = [self.shown]

    def _show(self) -> None:
        """Bring the slider that is seen to the nearest value it has, and ``value`` with it."""
        nearest = (
            min(LOG_STEPS, key=lambda step: abs(step - self.value))
            if self.log_scale
            else min(self.value, self.linear.max)
        )
        self.shown.value = nearest
        self.value = self.shown.value
