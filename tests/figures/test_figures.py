"""Figures: they draw what the data says, with labels and units."""

import numpy as np
import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit import figures
from sepo_kit.evaluation import paper
from sepo_kit.runs import read_json

ROWS = [
    {
        "model": "pico",
        "game": game,
        "stage": stage,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "n": n,
    }
    for game in ("ipd", "kuhn")
    for stage, shift in (("base", 0.0), ("sft", 0.5), ("sepo", 1.0))
    for metric, value, low, high, n in (
        ("safety", -1 + shift, -1.2 + shift, -0.8 + shift, 3),
        ("payoff", 2 + shift, None, None, 1),
        ("nra", None, None, None, 1),
    )
]


def test_stage_terms_leaves_out_what_is_not_defined_and_draws_intervals():
    figure = figures.stage_terms(pd.DataFrame(ROWS), "pico", "ipd")
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "Safety (scaled payoff)",
        "payoff per round (points)",
    ]
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [-1.0, -0.5, 0.0]
    assert figure.axes[0].containers and len(figure.axes[0].collections) >= 1


def test_units_are_those_of_the_game():
    assert figures.label("exploit", "kuhn") == "exploit per hand (chips)"


def test_a_study_without_a_sepo_yet_has_no_bars():
    rows = pd.DataFrame([row for row in ROWS if row["stage"] != "sepo"])
    assert figures.safety_changes(rows).empty and not figures.safety_change(rows).axes


def test_a_log_without_a_curve_says_so():
    with pytest.raises(ValueError, match="no curve yet; wait for the first step"):
        figures.training_curves(pd.DataFrame({"step": [], "seed": []}), "kuhn")


def test_safety_change_is_sepo_minus_base():
    change = figures.safety_changes(pd.DataFrame(ROWS))
    assert list(change["change"]) == [1.0, 1.0]
    figure = figures.safety_change(pd.DataFrame(ROWS))
    assert [text.get_text() for text in figure.axes[0].texts] == ["+1.00", "+1.00"]


def test_training_curves_show_the_mean_of_the_seeds():
    metrics = pd.DataFrame(
        {
            "step": [1, 2, 1, 2],
            "seed": [0, 0, 1, 1],
            "sepo/safety": [0.0, 1.0, 2.0, 3.0],
            "kl": [0.0, 0.1, 0.0, 0.1],
        }
    )
    figure = figures.training_curves(metrics, "kuhn", smooth=1)
    assert len(figure.axes) == 2
    np.testing.assert_allclose(figure.axes[0].lines[-1].get_ydata(), [1.0, 2.0])


def test_a_small_loss_is_no_negative_zero():
    rows = [
        {"agent": a, "opponent": b, "own": v}
        for (a, b), v in zip(
            [("x", "x"), ("x", "y"), ("y", "x"), ("y", "y")], [0.0, -0.001, 0.001, -0.5], strict=True
        )
    ]
    figure = figures.cross_play(pd.DataFrame(rows), "kuhn")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "0.00", "0.00", "-0.50"]


def test_curves_tell_how_long_reasoned_replies_are_and_how_many_are_cut_off():
    told = {"sepo/reply_tokens": [20.0, 30.0], "sepo/fallback": [0.0, 0.5], "sepo/safety": [0.0, 1.0]}
    direct = pd.DataFrame({"step": [1, 2], "seed": 0, **told})
    reasoned = direct.assign(**{"sepo/cut_off": [0.0, 0.25]})
    names = ["length of a reply (tokens)", "replies cut off (0 to 1)", "fallback rate (0 to 1)"]
    for draw, one in (
        (lambda frame: figures.training_curves(frame, "kuhn", smooth=1), "Safety (scaled payoff)"),
        (lambda frame: figures.run_curves(frame.assign(run="a", game="kuhn")), "Safety (scaled payoff)"),
    ):
        shown = [
            [a.get_ylabel() for a in draw(frame).axes if a.get_visible()] for frame in (direct, reasoned)
        ]
        assert shown == [[one], [one, *names]]


@pytest.mark.parametrize(
    ("game", "style", "says"),
    [
        ("kuhn", "direct", "worst case per hand (chips)"),
        ("kuhn", "reasoned", "worst case found\nper hand (chips)"),
        ("ipd", "direct", "worst case found\nper round (points)"),
    ],
)
def test_a_worst_case_that_was_found_in_training_is_not_called_exact(game, style, says):
    metrics = pd.DataFrame({"step": [1, 2], "seed": 0, "sepo/worst_case": [1.0, 2.0]})
    if style == "reasoned":
        metrics = metrics.assign(**{"sepo/cut_off": 0.0})
    of_a_run = metrics.assign(run="a", game=game)
    for figure in (figures.training_curves(metrics, game, smooth=1), figures.run_curves(of_a_run, smooth=1)):
        assert says in [axis.get_ylabel() for axis in figure.axes]
    # A reasoned run of which no worst case is logged takes nothing from the others.
    other = of_a_run.assign(run="b", **{"sepo/worst_case": np.nan, "sepo/cut_off": 0.0})
    figure = figures.run_curves(pd.concat([of_a_run, other]), smooth=1)
    assert says in [axis.get_ylabel() for axis in figure.axes]
    both = figures.run_curves(pd.concat([of_a_run, metrics.assign(run="b", game="auction")]), smooth=1)
    assert "worst case found (each game's unit)" in [axis.get_ylabel() for axis in both.axes]


def test_kuhn_policies_show_every_information_state():
    game = sk.get_game("kuhn")
    policy = sk.exact.policy_table(game, sk.scripted(game, "nash"))
    rows = pd.DataFrame({"nash": {k: p.get("BET", 0) + p.get("CALL", 0) for k, p in policy.items()}}).T
    figure = figures.kuhn_policies(rows)
    shown = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert len(shown) == 12
    assert shown[:3] == ["0.33", "0.00", "1.00"]


def test_save_writes_picture_vector_and_data(tmp_path):
    figure = figures.safety_change(pd.DataFrame(ROWS))
    data = figures.safety_changes(pd.DataFrame(ROWS))
    path = figures.save(figure, data, tmp_path, "change")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "change.svg").read_text().lstrip().startswith("<?xml")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "change.csv"), data)
    assert {p.name for p in tmp_path.iterdir()} == {
        "change.png", "change.svg", "change.csv", "change.json"
    }  # fmt: skip
    figures.save(figure, data, tmp_path / "figures", "change", tmp_path / "tables" / "quick.json")
    assert read_json(tmp_path / "figures" / "change.json")["table"] == "../tables/quick.json"


def test_the_same_data_is_the_same_file(tmp_path):
    for name in ("one", "two"):
        figures.save(figures.safety_change(pd.DataFrame(ROWS)), pd.DataFrame(ROWS), tmp_path / name, "change")
    for suffix in (".svg", ".csv"):
        one, two = ((tmp_path / name / f"change{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_the_papers_figure_stands_above_ours_with_its_own_weights_and_ours():
    published = paper.check_safety(paper.published("P1"), released=True)
    change = paper.safety_changes(published).assign(reweighed=0.25)
    figure = figures.safety_change_beside_paper(change, figures.safety_changes(pd.DataFrame(ROWS)))
    gemma, qwen, pico = figure.get_axes()
    assert [axis.get_title() for axis in (gemma, qwen, pico)] == ["gemma-4-E4B-it", "qwen-3.5-4B", "pico"]
    assert [text.get_text() for text in gemma.texts] == ["+0.01", "+1.15", "-0.69", "+2.51", "+1.02"]
    assert [tick.get_text() for tick in pico.get_xticklabels()] == [
        "Iterated\nprisoner's\ndilemma",
        "Kuhn poker",
    ]
    diamonds = [line for line in qwen.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(diamonds[0].get_ydata(), [0.25] * 5)
    assert not [line for line in pico.lines if line.get_marker() == "D"]


def test_kuhn_frequencies_show_every_card_in_both_situations():
    table = paper.kuhn_frequencies().set_index("condition").drop(columns="checkpoint")
    figure = figures.kuhn_frequencies(table)
    bets, calls = figure.axes
    assert [text.get_text() for text in bets.texts[3:6]] == ["0.00", "0.89", "1.00"]
    assert [text.get_text() for text in calls.texts[:3]] == ["0.00", "0.33", "1.00"]


def test_run_curves_draw_a_line_per_run_and_a_panel_per_quantity():
    steps = {
        "step": [1, 2, 3],
        "sepo/safety": [0.0, 1.0, 2.0],
        "kl": [0.0, 0.1, 0.2],
        "sepo/collusion": [0.0] * 3,
    }
    one = pd.DataFrame(steps).assign(run="<a>", game="kuhn", stage="sepo")
    figure = figures.run_curves(pd.concat([one, one.assign(run="b")]), smooth=1)
    drawn = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_ylabel() for axis in drawn] == ["Safety (scaled payoff)", "KL to SFT (nats)"]
    assert all(len(axis.lines) == 2 for axis in drawn)
    np.testing.assert_allclose(drawn[0].lines[1].get_ydata(), [0.0, 1.0, 2.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["<a>", "b"]
    both = pd.concat([one.assign(game="ipd", **{"sepo/exploit": 1.0}), one])
    labels = [axis.get_ylabel() for axis in figures.run_curves(both).axes if axis.get_visible()]
    assert "exploit (each game's unit)" in labels and "collusion (0 to 1)" in labels


def test_rare_actions_of_demonstrations_are_one_bar():
    counts = pd.DataFrame({"demonstrator": "fair", "action": list("abcdef"), "records": [5, 1, 4, 1, 1, 3]})
    axis = figures.demonstration_counts(counts, "few", most=4).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "c", "f", "3 others"]
    assert [bar.get_width() for bar in axis.patches] == [5, 4, 3, 3]


def test_agents_cross_play_has_a_panel_for_each_term_that_is_not_0_everywhere():
    agents = {name: sk.scripted("ipd", name) for name in ("tit-for-tat", "always-defect")}
    figure = figures.agents_cross_play(sk.cross_play(agents, "ipd", episodes=2), "ipd")
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["payoff", "exploit", "collusion", "externality"]
    told = [text.get_text() for text in panels[0].texts]
    assert told == ["3.00\n±0.00", "0.88\n±0.00", "1.50\n±0.00", "1.00\n±0.00"]
    assert "payoff per round (points)" in [axis.get_ylabel() for axis in figure.axes]
    figure = figures.agents_cross_play(sk.cross_play({"a": sk.uniform("kuhn")}, "kuhn", episodes=5), "kuhn")
    assert {axis.get_title() for axis in figure.axes if axis.get_title()} <= {"payoff", "exploit"}
