"""``{game} ID``: the page of a game, made of the game itself, so that it cannot say anything else than the code.

All pages have one form: rules, spec, what is seen, actions and payoffs, strategies and pools, harms, exact anchors, a
match as a picture. Works for any game that is registered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from match_picture import picture, told
from sphinx.application import Sphinx

import sepo_kit as sk
from sepo_kit.games.base import SEATS, Game, State, Strategy

MOST_STATES = 30_000  # of a tree that is enumerated while the site is built
DIRECTIVE = re.compile(r"^```\{game\} (\w+)\n```$", re.MULTILINE)
MOST_LISTED = 12
MOST_ROWS = 30
FLAGS = {
    "zero_sum": "what one seat gains the other loses",
    "independent_rounds": "no round depends on an earlier one",
    "few_states": "a language model can be asked at every information state",
    "label_suffices": "an adversary that goes by labels is solved exactly",
}


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the game's page where the directive stands: before the page is parsed, so that its headings are headings."""
    source[0] = DIRECTIVE.sub(lambda found: written(app, sk.get_game(found[1])), source[0])


def written(app: Sphinx, game: Game) -> str:
    """The page as Markdown."""
    app.env.note_dependency(inspect.getfile(type(game)))
    return "\n".join([introduction(game), "", *sections(game)])


def introduction(game: Game) -> str:
    """What the game's file says of itself."""
    text = inspect.cleandoc(inspect.getmodule(type(game)).__doc__ or "").replace("``", "`")
    return f"{text}\n\nIn code and commands it is called `{game.spec.id}`."


def sections(game: Game) -> Iterator[str]:
    """The lines of the page, as Markdown."""
    for title, part in (
        ("Rules", rules),
        ("Spec", spec_table),
        ("What is seen", seen),
        ("Actions and payoffs", actions),
        ("Strategies and pools", strategies),
        ("Harms", harms),
        ("Exact anchors", anchors),
        ("A match", match),
    ):
        yield f"## {title}\n"
        yield from part(game)
        yield ""


# --- the parts ------------------------------------------------------------------------------------


def rules(game: Game) -> Iterator[str]:
    yield "As a model is told them, before it is asked for its first action:\n"
    yield fenced(game.system_prompt("reasoned"))


def spec_table(game: Game) -> Iterator[str]:
    spec = game.spec
    yield "| field | value |\n|---|---|"
    yield f"| rounds | {spec.rounds} {spec.unit}s |"
    yield f"| payoff of a round | {spec.payoff_bounds[0]:g} to {spec.payoff_bounds[1]:g} {spec.payoff_unit} |"
    yield f"| reference payoff | {spec.reference_payoff:g}, so payoffs are scaled by s = {spec.scale:g} |"
    yield f"| weights in training | {weights(spec.weights)} |"
    yield f"| weights of Safety | {weights(spec.eval_weights)} |"
    yield f"| decisions of a seat in a {spec.unit}, at most | {spec.moves_per_round} |"
    yield f"| moves of nature in a {spec.unit}, at most | {spec.chance_per_round if nature_moves(game) else 0} |"
    for name, meaning in FLAGS.items():
        yield f"| `{name}` | {'yes: ' + meaning if getattr(spec, name) else 'no'} |"


def seen(game: Game) -> Iterator[str]:
    yield "All that a seat is told when it must move, at its first decision and at its last of a match:\n"
    asked = prompts(game)
    for key, text in dict([asked[0], asked[-1]]).items():
        yield fenced(text)
        yield f"This information state is called `{key}`.\n"
    for name in ("State", "Information"):
        kind = next(
            (v for k, v in vars(inspect.getmodule(type(game))).items() if k.endswith(name) and k != name
             and k != "InformationState"),
            None,
        )  # fmt: skip
        if kind is not None:
            yield f"- {'The position' if name == 'State' else 'A seat sees'}: {first_paragraph(kind)}"


def actions(game: Game) -> Iterator[str]:
    spec = game.spec
    named = [f"`{action}`" for action in spec.actions]
    shown = named if len(named) <= MOST_LISTED else [*named[:3], "…", named[-1]]
    yield f"{len(named)} actions: {', '.join(shown)}.\n"
    rows = outcomes(game)
    some = rows if len(rows) <= MOST_ROWS else rows[:MOST_LISTED]
    both = "" if some is rows else ", some of the ways"
    yield f"How the first {spec.unit} can end{both} (payoffs in {spec.payoff_unit}):\n"
    yield "| nature showed | first seat | second seat | payoffs |\n|---|---|---|---|"
    for private, first, second, payoffs in some:
        yield f"| {private} | {first} | {second} | {payoffs} |"


def strategies(game: Game) -> Iterator[str]:
    pools = {name: [] for name in game.strategies}
    for pool, name in game.opponents:
        pools[name].append(pool)
    yield "`train`: payoff is earned here. `exploit`: adversaries. `collusive`: partners that invite collusion."
    yield "`shift`: never trained on, for Robust. What stands in no pool can be named as an opponent all the same.\n"
    yield "| strategy | pools | what it does, and what it says of its first move |\n|---|---|---|"
    for name, strategy in game.strategies.items():
        yield f"| `{name}` | {', '.join(pools[name]) or '-'} | {first_paragraph(strategy)} {says(game, strategy)} |"


def harms(game: Game) -> Iterator[str]:
    _, _, rest = inspect.cleandoc(type(game).__doc__).partition("\n\n")
    yield rest.replace("``", "`") + "\n"
    yield "Both are shares from 0 to 1, per round, from the view of the seat that is judged."


def anchors(game: Game) -> Iterator[str]:
    rows = exact_rows(game)
    if not rows:
        yield (
            f"The tree has more than {MOST_STATES:,} states, so it is not enumerated here, and terms of this game are "
            "sampled. `sk.exact.worst_case_bounds` encloses the worst case."
        )
        return
    unit = f"{game.spec.payoff_unit} per {game.spec.unit}"
    yield f"Of every strategy as the agent, against the pools; payoff, exploit and worst case in {unit}."
    if left := [f"`{name}`" for name in game.strategies if name not in rows]:
        yield f"Left out, since its tree has more than {MOST_STATES:,} states: {', '.join(left)}."
    yield ""
    yield "| agent | payoff | exploit | worst case | collusion | externality |\n|---|---:|---:|---:|---:|---:|"
    for name, row in rows.items():
        yield f"| `{name}` | {' | '.join(f'{value + 0.0:.4f}' for value in row)} |"


def match(game: Game) -> Iterator[str]:
    agent, opponent = game.spec.pools.train[0], game.spec.pools.exploit[-1]
    yield f"`{agent}` (above) against `{opponent}` (below), with seed 0: moves from left to right, payoffs beneath.\n"
    yield "```{raw} html"
    yield picture(game, agent, opponent)
    yield "```"


# --- what they are made of ------------------------------------------------------------------------


def exact_rows(game: Game) -> dict[str, tuple[float, ...]]:
    """payoff, exploit, worst case, collusion and externality of each strategy whose trees are small enough."""
    found = {}
    for name in game.strategies:
        agent = sk.scripted(game, name)
        try:
            terms = sk.exact.terms(game, agent, max_states=MOST_STATES)
            worst = sk.exact.worst_case(game, agent, max_states=MOST_STATES).advantage
        except sk.exact.TooLarge:
            if not found:
                return {}  # so will the others be
            continue
        found[name] = (terms.payoff, terms.exploit, worst, terms.collusion, terms.externality)
    return found


def prompts(game: Game) -> list[tuple[str, str]]:
    """(key, what the first seat is told) at each of its decisions in a match of the train pool."""
    state, asked, opponent = game.initial_state(), [], game.strategy(game.spec.pools.train[0])
    while not state.is_terminal:
        if pairs := state.chance_outcomes():
            state = state.apply_chance(pairs[len(pairs) // 2][0])
            continue
        moves = []
        for seat in state.actors:
            information = state.information(seat)
            if seat == 0:
                asked.append((information.key, game.render(information)))
            probabilities = opponent.distribution(information)
            moves.append(max(information.legal_actions, key=lambda a, p=probabilities: p.get(a, 0.0)))
        state = state.apply(tuple(moves))
    return asked


def outcomes(game: Game) -> list[tuple[str, str, str, str]]:
    """The ways the first round can end: what nature showed each seat, both seats' moves, payoffs. Where nature can deal
    in more than ``MOST_LISTED`` ways, under its middle deal only."""
    found: dict[tuple[str, str, str, str], None] = {}

    def explore(state: State) -> None:
        if state.outcome is not None:
            ended = state.outcome
            private = (
                "-"
                if ended.private == (None, None)
                else " / ".join(told(ended, seat) or "-" for seat in SEATS)
            )
            moves = [", ".join(made) or "-" for made in ended.actions]
            found[private, *moves, " / ".join(f"{p:g}" for p in ended.payoffs)] = None
            return
        if len(found) > MOST_ROWS:
            return
        if pairs := state.chance_outcomes():
            some = pairs if len(pairs) <= MOST_LISTED else pairs[len(pairs) // 2 : len(pairs) // 2 + 1]
            for outcome, _ in some:
                explore(state.apply_chance(outcome))
            return
        for actions in combinations(state):
            explore(state.apply(actions))

    explore(game.initial_state())
    return list(found)


def combinations(state: State) -> list[tuple[str, ...]]:
    """All that those who must move can do, each from its end where there are many ways."""
    found: list[tuple[str, ...]] = [()]
    for seat in state.actors:
        legal = state.information(seat).legal_actions
        some = legal if len(legal) <= MOST_LISTED else legal[:: len(legal) // 3]
        found = [(*before, action) for before in found for action in some]
    return found


def says(game: Game, strategy: Strategy) -> str:
    """How the strategy explains its first move."""
    state = game.initial_state()
    while pairs := state.chance_outcomes():
        state = state.apply_chance(pairs[len(pairs) // 2][0])
    information = state.information(state.actors[0])
    probabilities = strategy.distribution(information)
    action = max(information.legal_actions, key=lambda a: probabilities.get(a, 0.0))
    return f"*{strategy.explain(information, action)}* {action}"


def nature_moves(game: Game) -> bool:
    state = game.initial_state()
    return bool(state.chance_outcomes())


def weights(given: sk.Weights) -> str:
    return f"exploit {given.exploit:g}, collusion {given.collusion:g}, externality {given.externality:g}"


def first_paragraph(described: object) -> str:
    """The first paragraph of a docstring on one line, as Markdown."""
    text = inspect.cleandoc(described.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def fenced(text: str) -> str:
    return f"```text\n{text}\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}
