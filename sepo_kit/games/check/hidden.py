"""Hidden information: what nature did not show a seat must not show."""

from __future__ import annotations

from sepo_kit.games.base import SEATS, InformationState, State
from sepo_kit.games.check.frame import Move, Trail, short
from sepo_kit.games.check.states import StateChecks

TWINS = 6  # other outcomes tried at a move of nature, to find hidden information that shows


class HiddenChecks(StateChecks):
    """Checks that episodes which differ in a move of nature look the same to whom it was not shown."""

    def hidden_information(self, trail: Trail) -> None:
        """Change one move of nature and nothing else: a seat that was shown the same must see the same."""
        places = [index for index, (move, _) in enumerate(trail) if move is not None and move[0] == "nature"]
        for index in self.some(places, 3):
            drawn = trail[index][0][1]
            others = [o for o, _ in trail[index - 1][1].chance_outcomes() if o != drawn]
            for other in self.some(others, TWINS):
                self.same_view(trail, self.twin(trail, index, other), (drawn, other))

    def twin(self, trail: Trail, index: int, other: object) -> Trail:
        """``trail`` with nature's move at ``index`` changed to ``other``, as far as its moves go."""
        state = trail[index - 1][1]
        twin = trail[:index]
        for place in range(index, len(trail)):
            move = ("nature", other) if place == index else trail[place][0]
            if not self.possible(state, move):
                break
            state = self.step(state, move)
            self.visit(state)
            twin.append((move, state))
        return twin

    def possible(self, state: State, move: Move) -> bool:
        kind, what = move
        if kind == "nature":
            return any(what == outcome for outcome, _ in state.chance_outcomes())
        return len(what) == len(state.actors) and all(
            action in state.information(seat).legal_actions
            for seat, action in zip(state.actors, what, strict=True)
        )

    def same_view(self, trail: Trail, twin: Trail, drawn: tuple[object, object]) -> None:
        views: dict[int, list[tuple[InformationState, InformationState]]] = {seat: [] for seat in SEATS}
        for (_, one), (_, two) in zip(trail, twin, strict=False):
            if one.actors != two.actors or (one.outcome is None) != (two.outcome is None):
                return
            if one.outcome is not None:
                for seat in list(views):
                    if one.outcome.private[seat] != two.outcome.private[seat]:
                        del views[seat]  # nature showed this seat something else
                        continue
                    for pair in views[seat]:
                        self.same_to(seat, *pair, drawn)
                    views[seat] = []
            for seat in set(views) & set(one.actors):
                views[seat].append((one.information(seat), two.information(seat)))

    def same_to(self, seat: int, one: InformationState, two: InformationState, drawn: tuple) -> None:
        how = f"seat {seat} can tell whether nature drew {short(drawn[0])} or {short(drawn[1])}"
        mend = (
            "Outcome.private says that it was shown the same in both: leave the hidden part out of "
            "information(), or, if the seat may see it, put it into Outcome.private"
        )
        self.require(one == two and one.key == two.key, f"{how} from {short(one)} and {short(two)}", mend)
        texts = self.game.render(one), self.game.render(two)
        self.require(texts[0] == texts[1], f"{how} from the prompts {texts[0]!r} and {texts[1]!r}", mend)
