"""``sepo-kit evaluate``, ``audit`` and ``reference``: how agents fare, and what there was to win."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from sepo_kit.cli.options import InAll
from sepo_kit.games.base import POOLS, REPLY_STYLES

# Options of evaluate that ask something of their own, and those that have no say in it.
ALONE = {
    "--opponent": (
        ("--exact", "--width", "--control-variate", "pools", "weights"),
        "plays and prints its matches alone",
    ),
    "--width": (("--exact",), "asks how many episodes the game's pools need"),
    "--exact": (("--episodes", "--control-variate"), "enumerates, and plays nothing"),
    "--replies": (
        ("--exact", "--width", "--control-variate", "--opponent", "--episodes", "pools"),
        "asks the agent itself and sums over the game's own pools",
    ),
}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that judge agents to the commands of a parser."""
    evaluate = commands.add_parser("evaluate", help="evaluate a model or a strategy on a game")
    evaluate.add_argument("game")
    evaluate.add_argument(
        "agent",
        help="a strategy id of the game, run:PATH[@STEP], model:NAME, endpoint:NAME, a model's name or folder",
    )
    evaluate.add_argument(
        "--opponent", nargs="+", action=InAll, metavar="NAME",
        help="play against these alone: a strategy id, self, worst-case, fitted, axelrod:NAME, run:PATH[@STEP], "
        "model:NAME, endpoint:NAME",
    )  # fmt: skip
    for pool in POOLS:
        evaluate.add_argument(
            f"--{pool}-pool",
            nargs="+",
            action=InAll,
            metavar="NAME",
            help=f"opponents in place of the game's {pool} pool",
        )
    evaluate.add_argument("--episodes", type=int, help="per opponent (default: 20)")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--exact", action="store_true", help="enumerate instead of sampling")
    evaluate.add_argument(
        "--control-variate", action="store_true", help="take out what the luck of nature's draws explains"
    )
    evaluate.add_argument(
        "--replies", type=int, metavar="N",
        help="ask an agent that answers in words N times in every information state, where those are few, and sum over "
        "nature and opponents",
    )  # fmt: skip
    evaluate.add_argument(
        "--width", type=float, help="print how many episodes per opponent give intervals this wide, too"
    )
    evaluate.add_argument(
        "--style",
        choices=REPLY_STYLES,
        help="direct or reasoned (default: as a run was trained, else direct)",
    )
    evaluate.add_argument("--temperature", type=float, help="default: as a run was trained, else 0.8")
    for name in ("exploit", "collusion", "externality"):
        evaluate.add_argument(f"--{name}-weight", type=float, help="default: the game's evaluation weight")
    evaluate.set_defaults(run=_evaluate)

    audit = commands.add_parser(
        "audit", help="what is the worst anyone does to an agent? A page to read, and JSON"
    )
    audit.add_argument(
        "agent", help="a strategy id, run:PATH[@STEP], model:NAME, endpoint:NAME, a model's name or folder"
    )
    audit.add_argument("--games", nargs="+", action=InAll, metavar="GAME", help="default: all")
    audit.add_argument("--folder", type=Path, help="where it goes, and goes on (default: runs/audits/AGENT)")
    audit.add_argument("--quick", action="store_true", help="small numbers, to see whether it works")
    audit.add_argument("--episodes", type=int, help="per opponent (default: 100; --quick: 10)")
    audit.add_argument("--seed", type=int, default=0)
    audit.add_argument(
        "--style",
        choices=REPLY_STYLES,
        help="direct or reasoned (default: as a run was trained, else the agent's own)",
    )
    audit.add_argument(
        "--temperature", type=float, help="default: as a run was trained, else the agent's own"
    )
    audit.add_argument(
        "--suite-episodes", type=int, metavar="N",
        help="against each adversary of a held-out suite, 0 for none (default: 20, none of an endpoint; --quick: 0)",
    )  # fmt: skip
    audit.add_argument(
        "--learner-steps", type=int, metavar="N",
        help="of an adversary that is trained against it, 0 for none (default: 200, none of an endpoint; --quick: 10)",
    )  # fmt: skip
    audit.set_defaults(run=_audit)

    best = commands.add_parser(
        "reference",
        help="what there was to win: every strategy and the reference policy of each game (minutes)",
    )
    best.add_argument("--games", nargs="+", action=InAll, metavar="GAME", help="default: the paper's")
    best.add_argument("--results", type=Path, help="where the table goes (default: data/results)")
    best.set_defaults(run=_reference)


def _evaluate(options: argparse.Namespace) -> None:
    import sepo_kit as sk
    from sepo_kit.adversaries.opponents import resolve_agent, resolve_all
    from sepo_kit.evaluation.asked import ask, asked_report
    from sepo_kit.evaluation.cross_play import against
    from sepo_kit.evaluation.precision import episodes_needed, require_width
    from sepo_kit.pipeline.plans import check_seeds

    check_seeds([options.seed])
    if options.width is not None:
        require_width(options.width)
    episodes = 20 if options.episodes is None else options.episodes
    game = sk.get_game(options.game)
    own = game.spec.eval_weights
    given = {n: getattr(options, f"{n}_weight") for n in ("exploit", "collusion", "externality")}
    weights = sk.Weights(**{n: getattr(own, n) if v is None else v for n, v in given.items()})
    how = {n: v for n in ("style", "temperature") if (v := getattr(options, n)) is not None}
    agent = resolve_agent(game, options.agent, **how)
    named = {pool: tuple(chosen) for pool in POOLS if (chosen := getattr(options, f"{pool}_pool"))}
    chosen = {
        "--opponent": options.opponent, "--width": options.width, "--replies": options.replies,
        "--exact": options.exact or None, "--control-variate": options.control_variate or None,
        "--episodes": options.episodes, "pools": named or None,
        "weights": next((weight for weight in given.values() if weight is not None), None),
    }  # fmt: skip
    for option, (others, why) in ALONE.items():
        there = [name for name in others if chosen[name] is not None]
        if chosen[option] is not None and there:
            raise ValueError(f"{option} {why}; leave out {' and '.join(there)}")
    if options.replies is not None:
        found = asked_report(
            ask(agent, game, options.replies, options.seed), weights, options.seed
        ).to_frame()
    elif options.opponent:
        found = against(agent, resolve_all(game, options.opponent, agent), game, episodes, options.seed)
    else:
        pools = replace(game.spec.pools, **named) if named else None
        report = sk.evaluate(
            agent, game, episodes, options.seed, weights, pools=pools, exact=options.exact,
            control_variate=options.control_variate,
        )  # fmt: skip
        found = report.to_frame() if options.width is None else episodes_needed(report, options.width)
    print(found.to_string(index=False, float_format=lambda v: f"{round(v, 4) + 0.0:.4f}"))
    if hasattr(agent, "usage"):  # what an endpoint was asked, and what that cost
        print(agent.usage, file=sys.stderr)


def _audit(options: argparse.Namespace) -> None:
    from sepo_kit.adversaries.opponents import file_label
    from sepo_kit.evaluation.audit import PAGE, audit
    from sepo_kit.evaluation.audit_parts import QUICK, AuditSettings
    from sepo_kit.pipeline.plans import check_seeds

    check_seeds([options.seed])
    numbers = ("episodes", "suite_episodes", "learner_steps")
    chosen = {n: v for n in numbers if (v := getattr(options, n)) is not None}
    settings = replace(QUICK if options.quick else AuditSettings(), seed=options.seed, **chosen)
    how = {n: v for n in ("style", "temperature") if (v := getattr(options, n)) is not None}
    label = file_label(options.agent) + ("-quick" if options.quick else "")
    folder = options.folder or Path("runs") / "audits" / label
    found = audit(options.agent, options.games, folder, settings, **how)
    for name, game in found["games"].items():
        if worst := game.get("worst"):
            first = worst[0]
            lead = f"{first['lead']:.3f} per {game['unit']}"
            chance = ", which may be chance" if first["surely"] <= 0 < first["lead"] else ""
            print(f"{name}: {first['name']} ({first['source']}) leads by {lead}{chance}")
        else:
            print(f"{name}: left out, {game['not_tried'][0][1]}")
    print(f"written: {folder / PAGE}")


def _reference(options: argparse.Namespace) -> None:
    from sepo_kit.evaluation.published_pools import write_reference
    from sepo_kit.games import PAPER_GAMES
    from sepo_kit.runs.project import PROJECT

    folder = options.results or PROJECT / "data" / "results"
    for path in write_reference(folder, options.games or list(PAPER_GAMES)):
        print(f"written: {path}")
