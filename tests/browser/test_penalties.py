"""Notebook 02 in the browser: what the penalties measure."""

from __future__ import annotations


def test_it_runs_and_its_figures_fit_the_page(open_notebook, tmp_path):
    with open_notebook("02_penalties", runs=str(tmp_path), profile="smoke") as page:
        page.run_all()
        widths = [figure.bounding_box()["width"] for figure in page.figures()]
        assert len(widths) == 6  # ranking, flips and what weights buy, of two games
        assert all(300 < width < 860 for width in widths)
