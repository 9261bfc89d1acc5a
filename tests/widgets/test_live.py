"""A figure that is drawn again in its place."""

from __future__ import annotations

import struct

import matplotlib.pyplot as plt
import pytest

from sepo_kit.widgets import live as module
from sepo_kit.widgets.live import Live


@pytest.fixture
def shown(monkeypatch):
    """The pictures, in order: first ("display", picture), then ("update", picture)."""
    calls = []

    class Handle:
        def update(self, picture):
            calls.append(("update", picture))

    def display(picture, display_id):
        calls.append(("display", picture))
        return Handle()

    monkeypatch.setattr(module, "display", display)
    return calls


def figure():
    made, axis = plt.subplots(figsize=(2, 1))
    axis.plot([0, 1])
    return made


def test_it_is_one_picture_that_changes(shown):
    live = Live(figure, seconds=0, share=1e9)
    live.refresh()
    live.refresh()
    live.finish()
    assert [kind for kind, _ in shown] == ["display", "update", "update"]
    assert not plt.get_fignums()


def test_nothing_is_shown_until_there_is_something_to_draw(shown):
    made = iter([None, figure()])
    live = Live(lambda: next(made), seconds=0, share=1e9)
    live.refresh()
    assert shown == []
    live.refresh()
    assert len(shown) == 1


def test_it_is_not_drawn_more_often_than_asked_and_slow_figures_less_often(shown, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])

    def slow():
        clock[0] += 1.0
        return figure()

    live = Live(slow, seconds=2.0, share=0.1)
    while clock[0] < 34:
        live.refresh()
        clock[0] += 0.25
    assert len(shown) == 4  # one second of drawing, ten of pause


def test_the_size_is_stated_so_that_the_page_keeps_its_place(shown):
    Live(figure).finish()
    data, metadata = shown[0][1]._repr_mimebundle_()
    assert struct.unpack(">II", shown[0][1].data[16:24]) == (
        metadata["image/png"]["width"],
        metadata["image/png"]["height"],
    )
    assert data["image/png"]
