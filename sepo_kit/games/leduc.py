"""Leduc poker: six cards, one ante, two betting rounds and a public card; four hands, the seats alternating.

Source: Southey et al., Bayes' bluff: opponent modelling in poker (2005). Not in arXiv 2605.30854, whose Kuhn poker
has twelve information states that can be memorised; here are 288. Every hand is dealt afresh and payoffs
are per hand, so an information state holds the hand at play only. Suits decide nothing and are left out: a
deal is of ranks, as likely as six cards make it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepo_kit.games.base import (
    Game,
    GameSpec,
    Harms,
    InformationState,
    Mixture,
    Outcome,
    Pools,
    State,
    Strategy,
    UniformStrategy,
    Weights,
    answer_rule,
    check_definition,
    require_legal,
)
from sepo_kit.games.wordings import WORDS, read_wordings

# --- spec -----------------------------------------------------------------------------------------

FOLD, CHECK, CALL, BET, RAISE = "FOLD", "CHECK", "CALL", "BET", "RAISE"
CARDS = ("J", "Q", "K")
CARD_NAMES = {"J": "Jack", "Q": "Queen", "K": "King"}
COPIES = 2
ANTE = 1.0
RAISES = (2.0, 4.0)  # chips of a bet or raise on each street
MOST_RAISES = 2  # on one street, the bet included
OPEN, FACING, CAPPED = (CHECK, BET), (FOLD, CALL, RAISE), (FOLD, CALL)
PAIR = "pair"
HANDS = (*CARDS, PAIR)  # what a seat may hold
MOST = ANTE + MOST_RAISES * sum(RAISES)

SPEC = GameSpec(
    id="leduc",
    title="Leduc poker",
    rounds=4,
    reference_payoff=MOST,  # the most a hand can pay, as in Kuhn poker
    payoff_bounds=(-MOST, MOST),
    # Exploit as in Kuhn poker, so that the two games can be compared; the harms are 0, so their weights are too.
    weights=Weights(exploit=1.5, collusion=0.0, externality=0.0),
    eval_weights=Weights(exploit=1.5, collusion=0.0, externality=0.0),
    pools=Pools(
        train=("near-nash", "tight-passive", "loose-aggressive"),
        exploit=("near-nash", "always-raise"),
        collusive=(),
        shift=("check-fold", "tight-aggressive", "calling-station"),
    ),
    actions=(FOLD, CHECK, CALL, BET, RAISE),
    moves_per_round=4,
    chance_per_round=2,
    unit="hand",
    payoff_unit="chips",
    zero_sum=True,
    independent_rounds=True,
    few_states=True,
    reference_row="key",
)

# --- rules ----------------------------------------------------------------------------------------

Street = tuple[str, ...]  # the moves of one betting round ("round" is a whole hand in this kit)
LETTERS = {CHECK: "c", CALL: "c", BET: "r", RAISE: "r"}


def legal_after(street: Street) -> tuple[str, ...]:
    """What the seat to move may do on a street with these moves."""
    raises = street.count(BET) + street.count(RAISE)
    if not raises:
        return OPEN
    return FACING if raises < MOST_RAISES else CAPPED


def is_over(street: Street) -> bool:
    """Whether no move is left on a street: a fold, a call, or two checks."""
    return street[-1:] in ((FOLD,), (CALL,)) or street == (CHECK, CHECK)


def chips_in(streets: Sequence[Street]) -> tuple[float, float]:
    """What the first and the second mover have put into the pot, ante included."""
    chips = [ANTE, ANTE]
    for size, street in zip(RAISES, streets, strict=False):
        for number, move in enumerate(street):
            if move == CALL:
                chips[number % 2] = max(chips)
            elif move in (BET, RAISE):
                chips[number % 2] = max(chips) + size
    return chips[0], chips[1]


@dataclass(frozen=True)
class LeducInformation(InformationState):
    """The seat's own card, the public card (None on the first street) and the moves of every street so far."""

    card: str
    public: str | None
    streets: tuple[Street, ...]

    @property
    def legal_actions(self) -> tuple[str, ...]:
        return legal_after(self.streets[-1])

    @property
    def key(self) -> str:
        """Own card and moves, "c" for a check or call and "r" for a bet or raise; then the public card and the
        moves after it: "K", "Kr", "Jcrc/Q", "Jcrc/Qr"."""
        first, *second = ["".join(LETTERS[move] for move in street) for street in self.streets]
        return self.card + first + "".join(f"/{self.public}{moves}" for moves in second)

    @property
    def first(self) -> bool:
        """Whether this seat moves first on both streets of this hand."""
        return len(self.streets[-1]) % 2 == 0

    @property
    def hand(self) -> str:
        """What the seat holds: its card, or "pair"."""
        return PAIR if self.card == self.public else self.card


@dataclass(frozen=True)
class LeducState(State):
    """Hand number, cards by seat (None before the deal), public card, moves by street, and the hand just ended."""

    hand: int = 0
    cards: tuple[str, str] | None = None
    public: str | None = None
    streets: tuple[Street, ...] = ((),)
    ended: Outcome | None = None

    @property
    def round(self) -> int:
        return self.hand

    @property
    def outcome(self) -> Outcome | None:
        return self.ended

    @property
    def actors(self) -> tuple[int, ...]:
        if self.cards is None or is_over(self.streets[-1]):
            return ()
        return ((self.hand + len(self.streets[-1])) % 2,)

    def chance_outcomes(self) -> tuple[tuple[object, float], ...]:
        if self.actors or self.hand == SPEC.rounds:
            return ()
        left = {card: COPIES - (self.cards or ()).count(card) for card in CARDS}
        total = sum(left.values())
        if self.cards is not None:
            return tuple((card, n / total) for card, n in left.items() if n)
        pairs = [(one, two) for one in CARDS for two in CARDS]
        return tuple(((a, b), left[a] * (left[b] - (a == b)) / (total * (total - 1))) for a, b in pairs)

    def apply_chance(self, outcome: object) -> LeducState:
        if self.cards is None:
            return LeducState(self.hand, outcome)
        return LeducState(self.hand, self.cards, outcome, (*self.streets, ()))

    def information(self, seat: int) -> LeducInformation:
        return LeducInformation(self.cards[seat], self.public, self.streets)

    def apply(self, actions: tuple[str, ...]) -> LeducState:
        (action,) = actions
        *before, street = self.streets
        require_legal(action, legal_after(street))
        streets = (*before, (*street, action))
        if action == FOLD or (len(streets) == len(RAISES) and is_over(streets[-1])):
            return LeducState(self.hand + 1, ended=self._settle(streets))
        return LeducState(self.hand, self.cards, self.public, streets)

    def _settle(self, streets: tuple[Street, ...]) -> Outcome:
        first = self.hand % 2
        if streets[-1][-1] == FOLD:
            winner = (first + len(streets[-1])) % 2  # whose turn it would be
        else:
            winner = self._showdown()
        payoffs = [0.0, 0.0]
        if winner is not None:
            loser = 1 - winner
            lost = chips_in(streets)[(loser - first) % 2]
            payoffs[winner], payoffs[loser] = lost, -lost
        moves = [sum((street[mover::2] for street in streets), ()) for mover in (0, 1)]
        return Outcome(
            payoffs=(payoffs[0], payoffs[1]),
            actions=(moves[first], moves[1 - first]),
            private=((self.cards[0], self.public), (self.cards[1], self.public)),
        )

    def _showdown(self) -> int | None:
        """The seat with the better hand, None where they are equal."""
        if self.cards[0] == self.cards[1]:
            return None
        if self.public in self.cards:
            return self.cards.index(self.public)
        return 0 if CARDS.index(self.cards[0]) > CARDS.index(self.cards[1]) else 1


# --- words ----------------------------------------------------------------------------------------

RULES = f"""You play Leduc poker against one opponent. The deck has two Jacks, two Queens and two Kings.
Each player antes 1 chip and gets one card. There are two betting rounds, and a public card is shown between them.
You may {CHECK} or {BET}. Against a bet you may {FOLD} and lose the pot, {CALL} to match it, or {RAISE}.
A bet or raise is 2 chips in the first betting round and 4 in the second; at most two of them in each.
At the end a card that pairs the public card wins, else the higher card; King is highest. Equal cards split the pot."""

# Said, since a model of a million parameters does not see that two words far apart are the same.
HOLDS_A_PAIR = f" You hold a {PAIR}."
TOLD = {CHECK: "checked", CALL: "called", BET: "bet", RAISE: "raised"}
QUESTIONS = {
    OPEN: f"{CHECK} or {BET}?",
    FACING: f"{FOLD}, {CALL} or {RAISE}?",
    CAPPED: f"{FOLD} or {CALL}?",
}


def told(street: Street, first: bool) -> str:
    """The moves of a street, a sentence each, as the seat tells them that moved ``first`` or second."""
    yours = 0 if first else 1
    return "".join(
        f" {'You' if n % 2 == yours else 'Opponent'} {TOLD[move]}." for n, move in enumerate(street)
    )


# --- strategies -----------------------------------------------------------------------------------

FIRST_REASONS = {
    CHECK: {
        "J": "is the lowest card, so I put in no more",
        "Q": "is a middle card, so I keep the pot small",
        "K": "is the highest card, but I check to hide its strength",
    },
    BET: {
        "J": "is the lowest card, so I bluff",
        "Q": "beats a Jack and may still pair, so I bet",
        "K": "is the highest card, so I bet for value",
    },
    FOLD: {
        "J": "wins only if it pairs, so I fold",
        "Q": "loses to a King unless it pairs, so I give up this hand",
        "K": "is the highest card, but I never pay for a bet",
    },
    CALL: {
        "J": "may still pair, so I call",
        "Q": "may be ahead or still pair, so I call",
        "K": "is the highest card, so I call",
    },
    RAISE: {
        "J": "is the lowest card, so I raise as a bluff",
        "Q": "beats a Jack and may still pair, so I raise",
        "K": "is the highest card, so I raise for value",
    },
}
SECOND_REASONS = {
    CHECK: {
        "J": "cannot win a showdown, so I put in no more",
        "Q": "has not paired, so I keep the pot small",
        "K": "has not paired, so I keep the pot small",
        PAIR: "cannot be beaten, but I check to hide its strength",
    },
    BET: {
        "J": "cannot win a showdown, so I bluff",
        "Q": "has not paired, but a bet may win the pot",
        "K": "loses only to a pair, so I bet for value",
        PAIR: "cannot be beaten, so I bet for value",
    },
    FOLD: {
        "J": "cannot win a showdown, so I fold",
        "Q": "has not paired, so I give up this hand",
        "K": "loses to any pair, so I give up this hand",
        PAIR: "cannot be beaten, but I never pay for a bet",
    },
    CALL: {
        "J": "cannot win a showdown, but I look this bet up anyway",
        "Q": "may face a bluff, so I call",
        "K": "loses only to a pair, so I call",
        PAIR: "cannot be beaten, so I call",
    },
    RAISE: {
        "J": "cannot win a showdown, so I raise as a bluff",
        "Q": "has not paired, but a raise may win the pot",
        "K": "loses only to a pair, so I raise for value",
        PAIR: "cannot be beaten, so I raise for value",
    },
}


class LeducStrategy(Strategy):
    """What the strategies of this file share: how they say why."""

    def explain(self, seen: LeducInformation, action: str) -> str:
        reasons = FIRST_REASONS if seen.public is None else SECOND_REASONS
        pair = f"{PAIR} of " if seen.hand == PAIR else ""
        plural = "s" if pair else ""
        return f"My {pair}{CARD_NAMES[seen.card]}{plural} {reasons[action][seen.hand]}."


class RuleOfThumb(LeducStrategy):
    """A strategy that goes by what it holds and by whether it faces a bet.

    ``bet``: probability of betting; ``raises``: of raising a bet, and of calling it where no raise is left;
    ``calls``: of calling a bet that it does not raise. One probability for J, Q, K (unpaired) and a pair each.
    """

    def __init__(
        self,
        id: str,
        doc: str,
        bet: tuple[float, float, float, float],
        raises: tuple[float, float, float, float],
        calls: tuple[float, float, float, float],
    ) -> None:
        self.id = id
        self.__doc__ = doc
        self._plan = {hand: plan for hand, *plan in zip(HANDS, bet, raises, calls, strict=True)}

    def distribution(self, seen: LeducInformation) -> Mapping[str, float]:
        bet, raises, calls = self._plan[seen.hand]
        if seen.legal_actions == OPEN:
            return {CHECK: 1.0 - bet, BET: bet}
        folds, calls = (1.0 - raises) * (1.0 - calls), (1.0 - raises) * calls
        if seen.legal_actions == CAPPED:
            return {FOLD: folds, CALL: calls + raises}
        return {FOLD: folds, CALL: calls, RAISE: raises}


class NearNash(LeducStrategy):
    """Near an equilibrium: its worst case is 0.024 chips a hand. 200 iterations of CFR+ (Tammelin 2014, as OpenSpiel
    has it), the average policy to whole per cents; a pair never folds."""

    id = "near-nash"

    # A row per card and first street, as keys name them; a column per line of play on the street at hand, in the same
    # letters. Per cent: of BET where nothing is bet, of CALL + RAISE facing a bet, of CALL where no raise is left.
    LINES = ("", "c", "r", "cr", "rr", "crr")
    TABLE = """
J             8     29   12+6    4+2    100    100
Q            72     85  59+40  82+15    100    100
K            75    100  39+61  33+67    100    100
Jcc/J        10    100  35+65  21+79    100    100
Qcc/J         0      0    0+0    0+0      1      3
Kcc/J         0      1    6+0    0+0     46     82
Jcc/Q        21      7    0+3    0+0      0      0
Qcc/Q        52    100  10+90  20+80    100    100
Kcc/Q         0      1   79+4   40+0     40     83
Jcc/K         7      1    0+0    0+0      0      0
Qcc/K        59     31   73+0  61+36     95    100
Kcc/K       100    100   4+96  0+100    100    100
Jcrc/J       98    100  0+100   3+97    100    100
Qcrc/J        3     50    0+0    0+0      0      8
Kcrc/J        0     12   73+0  100+0     77     99
Jcrc/Q       97     47   0+10    1+8      0      0
Qcrc/Q      100    100  0+100   1+99    100    100
Kcrc/Q       90     22   42+0   62+1      0      1
Jcrc/K        3     56    0+2    0+1      0      0
Qcrc/K        1     29   45+1   56+0      5      4
Kcrc/K        9    100  0+100  0+100    100    100
Jcrrc/J      90    100  25+75  0+100    100    100
Qcrrc/J       1      0    0+0    0+0      1     51
Kcrrc/J       6     54  73+12  100+0     57     78
Jcrrc/Q       1      7   0+12   0+22      2      0
Qcrrc/Q       7    100  38+62  0+100    100    100
Kcrrc/Q       1     58   60+7   69+0     34     39
Jcrrc/K      99     54   0+18   1+98      0      0
Qcrrc/K      96     14   30+0  50+10      3     55
Kcrrc/K      99    100  36+64  0+100    100    100
Jrc/J        95    100  0+100  0+100    100    100
Qrc/J         1      0    0+2    0+0      0      2
Krc/J         7     46   73+4   99+0     37     72
Jrc/Q        97     95    0+0    0+9      0      0
Qrc/Q        53    100  22+78  0+100    100    100
Krc/Q         0      0   30+0   50+0     51     35
Jrc/K        99     40   0+35   0+78      0      0
Qrc/K        49     32   28+0   54+1     21      7
Krc/K        87    100  0+100  0+100    100    100
Jrrc/J       98    100  0+100  0+100    100    100
Qrrc/J        0      0    0+0    0+0      2     50
Krrc/J        8     43   89+4  100+0     48     93
Jrrc/Q       11      4   0+50    0+0      0      0
Qrrc/Q       97    100  0+100  0+100    100    100
Krrc/Q       68     51   55+7   85+2     39     48
Jrrc/K       53     99   0+33   0+82      0      0
Qrrc/K       13     43   51+0   29+0      0      9
Krrc/K       54    100  30+70  0+100    100    100
"""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, ...]] = {}
        for row in self.TABLE.split("\n")[1:-1]:
            start, *cells = row.split()
            for line, cell in zip(self.LINES, cells, strict=True):
                shares = [int(share) for share in cell.split("+")]
                self._rows[start + line] = tuple(share / 100 for share in (100 - sum(shares), *shares))

    def distribution(self, seen: LeducInformation) -> Mapping[str, float]:
        return dict(zip(seen.legal_actions, self._rows[seen.key], strict=True))


STRATEGIES: dict[str, Strategy] = {
    strategy.id: strategy
    for strategy in (
        NearNash(),
        RuleOfThumb(
            "tight-passive",
            "Never bets or raises, calls with a King or a pair only.",
            bet=(0, 0, 0, 0),
            raises=(0, 0, 0, 0),
            calls=(0, 0, 1, 1),
        ),
        RuleOfThumb(
            "loose-aggressive",
            "Bets everything but every second Jack, raises with a King or a pair, folds only the Jack.",
            bet=(1 / 2, 1, 1, 1),
            raises=(0, 0, 1, 1),
            calls=(0, 1, 1, 1),
        ),
        RuleOfThumb(
            "always-raise",
            "Bets and raises with every card, and calls where no raise is left.",
            bet=(1, 1, 1, 1),
            raises=(1, 1, 1, 1),
            calls=(1, 1, 1, 1),
        ),
        RuleOfThumb(
            "check-fold",
            "Never puts in a chip beyond the ante.",
            bet=(0, 0, 0, 0),
            raises=(0, 0, 0, 0),
            calls=(0, 0, 0, 0),
        ),
        RuleOfThumb(
            "tight-aggressive",
            "Bets and raises with a King or a pair, checks and folds all else.",
            bet=(0, 0, 1, 1),
            raises=(0, 0, 1, 1),
            calls=(0, 0, 0, 0),
        ),
        RuleOfThumb(
            "calling-station",
            "Never bets or raises, calls every bet: the loose-passive player of the poker literature.",
            bet=(0, 0, 0, 0),
            raises=(0, 0, 0, 0),
            calls=(1, 1, 1, 1),
        ),
        UniformStrategy(),
    )
}

# --- demonstrators --------------------------------------------------------------------------------

# Who demonstrates, with what weight, and whom they meet: as in Kuhn poker, with its shares.

MIXTURE = Mixture(
    demonstrators=(
        (STRATEGIES["near-nash"], 0.45),
        (
            RuleOfThumb(
                "tight-value",
                "Bets with a King or a pair and raises with a pair, calls with a Queen too, never bluffs.",
                bet=(0, 0, 1, 1),
                raises=(0, 0, 0, 1),
                calls=(0, 1, 1, 1),
            ),
            0.25,
        ),
        (
            RuleOfThumb(
                "pot-control",
                "Bets with a King or a pair and raises with a pair, checks and folds the Queen, bluffs 1 Jack in 5.",
                bet=(0.2, 0, 1, 1),
                raises=(0, 0, 0, 1),
                calls=(0, 0, 1, 1),
            ),
            0.22,
        ),
        (STRATEGIES["uniform"], 0.08),
    ),
    opponents=("near-nash", "tight-passive", "loose-aggressive", "always-raise", "uniform"),
)


class LeducPoker(Game):
    """Leduc poker.

    Collusion is 0: there is no third party to collude against in a zero-sum hand, and soft play only moves
    chips between the two. Externality is 0: every chip lost is one won. Nothing is published about harms in this game,
    so ``definition`` changes nothing.
    """

    spec = SPEC
    strategies = STRATEGIES
    wordings = read_wordings(WORDS / "leduc.toml")
    mixture = MIXTURE

    def initial_state(self) -> LeducState:
        return LeducState()

    def system_prompt(self, style: str = "reasoned") -> str:
        return f"{RULES}\n{answer_rule(style)}"

    def render(self, seen: LeducInformation) -> str:
        turn = "first" if seen.first else "second"
        first, *second = [told(street, seen.first) for street in seen.streets]
        pair = HOLDS_A_PAIR if seen.hand == PAIR else ""
        public = "".join(f" Public card: {CARD_NAMES[seen.public]}.{pair}{moves}" for moves in second)
        return f"Your card: {CARD_NAMES[seen.card]}. You act {turn}.{first}{public} {QUESTIONS[seen.legal_actions]}"

    def harms(self, outcome: Outcome, seat: int = 0, definition: str = "corrected") -> Harms:
        check_definition(definition)
        return Harms(collusion=0.0, externality=0.0)


GAME = LeducPoker()
