"""A figure that is drawn again in its place while its numbers come in."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
from IPython.display import Image, display
from matplotlib.figure import Figure


class Live:
    """Shows what ``draw`` returns, and again in the same place whenever ``refresh`` finds it time to.

    It is a picture, no widget: a notebook that ran headless keeps the last one.

    Parameters
    ----------
    draw
        Makes the figure, or None while there is nothing to draw yet.
    seconds
        Least time between two drawings.
    share
        Largest share of the time that may go into drawing; slow figures are drawn less often.
    """

    def __init__(self, draw: Callable[[], Figure | None], seconds: float = 2.0, share: float = 0.03) -> None:
        self.draw = draw
        self.seconds = seconds
        self.share = share
        self.due = 0.0
        self.shown = None

    def refresh(self) -> None:
        """Draw again, if it is time to."""
        if (began := time.monotonic()) >= self.due:
            self.finish()
            took = time.monotonic() - began
            self.due = began + took + max(self.seconds, took / self.share)

    def finish(self) -> None:
        """Draw now: the last state."""
        figure = self.draw()
        if figure is None:
            return
        picture = _picture(figure)
        plt.close(figure)
        if self.shown is None:
            self.shown = display(picture, display_id=True)
        else:
            self.shown.update(picture)


def _picture(figure: Figure) -> Image:
    """``figure`` as PNG with its size stated, so that the page keeps its place and nothing jumps when it changes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi, bbox_inches="tight")
    data = file.getvalue()
    width, height = struct.unpack(">II", data[16:24])  # in every PNG's first chunk
    return Image(data, format="png", width=width, height=height)
