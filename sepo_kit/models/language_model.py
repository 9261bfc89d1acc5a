"""A language model at the table: state -> prompt -> reply -> action, in batches.

Two reply styles. ``direct``: the action only, by constrained decode over the legal actions, which gives the
exact distribution as well. ``reasoned``: a sentence of reasoning and the action on the last line; a reply
whose last line is no legal action, or that was cut off, falls back to one constrained decode, which is counted.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from math import inf

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import NoDistribution, Policy, draw
from sepo_kit.games.base import Game, InformationState, answer_rule
from sepo_kit.games.numbers import require_count
from sepo_kit.models.constrained import ReplyTree, Tokens, Walk
from sepo_kit.models.generation import BrokenLogits, sample_replies
from sepo_kit.models.prefix import TREE_TOKENS, allowed_logits, shares_prefixes
from sepo_kit.models.prefix_cache import PrefixCache
from sepo_kit.models.prompts import Prompts

# What a checkpoint may bring along to change its own distribution in ``generate``; the policy is the model's own.
UNTOUCHED = {
    "num_beams": 1, "min_p": None, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "sequence_bias": None,
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": None,
    "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "exponential_decay_length_penalty": None, "guidance_scale": None,
}  # fmt: skip

FEW = 64  # states that are stated by reading on from what was read before; for more at once, token trees are faster
IMPROBABLE = 1e-3  # that a reply comes to a branching: what lies behind is not asked by ``roughly``

Generate = Callable[[list[list[int]]], list[list[int]]]
Branching = tuple[tuple[int, ...], tuple[int, ...]]  # a context, and the tokens that may follow it


class LanguageModel(Policy):
    """A causal language model as an agent.

    Parameters
    ----------
    model, tokenizer
        A transformers model and its tokenizer with a chat template.
    temperature
        Divides the logits, > 0.
    style
        "direct" or "reasoned".
    max_new_tokens
        Longest reasoned reply, in tokens.
    generate
        How reasoned replies are made: prompts in, replies out, both as token ids. Default: the kit's own
        sampling. Training passes TRL's where that would not do: with vLLM, and for models that cannot share prefixes.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        game: Game,
        *,
        temperature: float = 0.8,
        style: str = "direct",
        max_new_tokens: int = 256,
        name: str = "language-model",
        tree_tokens: int = TREE_TOKENS,
        generate: Generate | None = None,
    ) -> None:
        answer_rule(style)
        if (
            isinstance(temperature, bool)
            or not isinstance(temperature, int | float)
            or not 0 < temperature < inf
        ):
            raise ValueError(f"temperature must be a number > 0, got {temperature!r}")
        require_count("max_new_tokens", max_new_tokens)
        if tokenizer.chat_template is None:
            raise ValueError(
                "the tokenizer has no chat template; use an instruct model, or set tokenizer.chat_template"
            )
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.game = game
        self.temperature = temperature
        self.style = style
        self.max_new_tokens = max_new_tokens
        self.tree_tokens = tree_tokens
        self.generate = generate
        self.prompts = Prompts(tokenizer, game, style)
        self._known: dict[Branching, Tensor] | None = None
        self._kept: PrefixCache | None = None

    def asked_by(self, game: Game) -> LanguageModel:
        other = copy(self)
        other.game, other.prompts = game, self.prompts.of(game)
        other._known = other._kept = None
        return other

    # --- direct replies ---------------------------------------------------------------------------

    @contextmanager
    def remember(self) -> Iterator[None]:
        if self._known is not None:  # inside of another such block
            yield
            return
        self._known = {}
        self._kept = PrefixCache(self.model) if shares_prefixes(self.model) else None
        try:
            yield
        finally:
            self._known = self._kept = None

    def identity(self) -> str:
        """How it replies, and a hash of how it reads and of its weights: of some of each tensor, which no training
        leaves as they were."""
        reads = self.tokenizer.chat_template, sorted(self.tokenizer.get_vocab().items())
        digest = hashlib.sha256(repr(reads).encode())
        for name, weights in self.model.named_parameters():
            flat = weights.detach().flatten()
            some = flat[:: max(1, flat.numel() // 1024)].float().cpu().numpy()
            digest.update(f"{name} {weights.dtype}".encode() + some.tobytes())
        how = f"{self.style} {self.temperature} {self.max_new_tokens}"
        return f"{self.game.spec.id} {how} {digest.hexdigest()}"

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        if self.style != "direct":
            raise NoDistribution(
                "a model with style='reasoned' answers in free text and has no closed-form distribution; "
                "use style='direct', or sample with sk.evaluate"
            )
        return self._constrained(seen, self._to_go_on_from(seen))

    def roughly(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        # In a block that remembers: play has asked for the branchings on its way, and few of the others matter.
        if self.style != "direct" or not self._known:
            return self.distributions(seen)
        return self._constrained(seen, self._to_go_on_from(seen), least=IMPROBABLE)

    def _to_go_on_from(self, seen: Sequence[InformationState]) -> PrefixCache | None:
        return self._kept if len(seen) <= FEW else None

    def ask_all(self, seen: Sequence[InformationState], grad: bool = False) -> dict[Branching, Tensor]:
        """Ask for all of ``seen`` at once, so that the rest of a ``remember`` block has what it needs of them.

        Returns
        -------
        dict
            Of each branching the log-probabilities of its tokens, differentiable where ``grad``.
        """
        answers: dict[Branching, Tensor] = {}
        asked = [
            (self.prompts.ids(state) + prefix, tokens)
            for state in seen
            for prefix, tokens in self.prompts.reply_tree(state.legal_actions).branches.items()
        ]
        self.log_probs_of_branches(asked, grad=grad, known=answers)
        if self._known is not None:
            self._known |= {pair: row.detach() for pair, row in answers.items()}
        return answers

    def _to_draw_from(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return self._constrained(seen, self._kept)

    def choice(self, seen: InformationState, index: int, probability: float) -> Decision:
        action = seen.legal_actions[index]
        return Decision(
            action,
            float(np.log(probability)),
            reply=action,
            prompt_ids=self.prompts.ids(seen),
            completion_ids=self.prompts.reply_tree(seen.legal_actions).decisive(index),
        )

    def _constrained(
        self,
        seen: Sequence[InformationState],
        kept: PrefixCache | None,
        after: Sequence[tuple[int, ...]] | None = None,
        least: float = 0.0,
    ) -> list[np.ndarray]:
        """Distribution over legal actions of a constrained decode that continues prompt + ``after``.

        ``kept``: what the model has read, to go on from; None: read anew. ``least``: with what probability a reply must
        come to a branching, as far as that is known, for it to be asked; behind others all actions are as likely.
        """
        if not seen:
            return []
        trees = [self.prompts.reply_tree(state.legal_actions) for state in seen]
        known = self._known if after is None else None
        asked: list[Branching] = []
        wanted: list[Sequence[Tokens]] = []
        for state, tree, behind in zip(seen, trees, after or [()] * len(seen), strict=True):
            start = self.prompts.ids(state) + behind
            wanted.append(
                tree.within_reach(self._remembered(start, tree), least) if least else [*tree.branches]
            )
            asked += [(start + prefix, tree.branches[prefix]) for prefix in wanted[-1]]
        rows = iter(self._answers(asked, known, kept))
        return [
            tree.distribution({prefix: next(rows) for prefix in prefixes})
            for tree, prefixes in zip(trees, wanted, strict=True)
        ]

    def _remembered(self, start: Tokens, tree: ReplyTree) -> Callable[[Tokens], np.ndarray | None]:
        """What is remembered of each branching of ``tree`` behind ``start``."""

        def known(prefix: Tokens) -> np.ndarray | None:
            row = (self._known or {}).get((start + prefix, tree.branches[prefix]))
            return None if row is None else row.cpu().numpy()

        return known

    def _answers(
        self, asked: Sequence[Branching], known: dict[Branching, Tensor] | None, kept: PrefixCache | None
    ) -> np.ndarray:
        """``log_probs_of_branches`` as an array; FloatingPointError where the model went wrong."""
        if not asked:
            return np.empty((0, 0))
        log_p = self.log_probs_of_branches(asked, known=known, kept=kept).cpu().double().numpy()
        if np.isnan(log_p).any():
            raise BrokenLogits(f"the logits of {self.name} are not finite; the model's weights are broken")
        return log_p

    def draws_for_less(self, seen: Sequence[InformationState]) -> bool:
        # by ``_walk``, where reading on from what is kept costs little
        if self.style != "direct" or self._kept is None:
            return False
        trees = [self.prompts.reply_tree(actions) for actions in {state.legal_actions for state in seen}]
        return any(len(tree.branches) > 1 for tree in trees) and all(tree.in_order for tree in trees)

    def _walk(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        """``act`` by going down the reply trees: of a tree with many branchings only those on the way are asked."""
        walks = [
            Walk(self.prompts.reply_tree(s.legal_actions), u) for s, u in zip(seen, uniforms, strict=True)
        ]
        while asking := [(i, at) for i, walk in enumerate(walks) if (at := walk.branching()) is not None]:
            asked = [(self.prompts.ids(seen[i]) + at, walks[i].tree.branches[at]) for i, at in asking]
            answers = self._answers(asked, self._known, self._kept)
            for (i, _), (_, tokens), row in zip(asking, asked, answers, strict=True):
                walks[i].take(np.exp(row[: len(tokens)]))
        return [self.choice(s, walk.action, walk.probability) for s, walk in zip(seen, walks, strict=True)]

    def log_probs_of_branches(
        self,
        asked: Sequence[Branching],
        *,
        grad: bool = False,
        model: torch.nn.Module | None = None,
        known: dict[Branching, Tensor] | None = None,
        kept: PrefixCache | None = None,
    ) -> Tensor:
        """Log-probabilities at temperature of the tokens that may follow, shape (N, K), -inf where fewer.

        ``known``, ``kept``: answers of the same weights, and what they have read, which is not computed again; new
        ones are added. With ``grad`` nothing is kept, and ``known`` holds answers that were given with it.
        """
        if known is None:
            with torch.set_grad_enabled(grad):
                logits = allowed_logits(
                    model if model is not None else self.model,
                    [context for context, _ in asked],
                    [tokens for _, tokens in asked],
                    pad_token_id=self.tokenizer.pad_token_id or 0,
                    tree_tokens=self.tree_tokens,
                    cache=kept,
                )
                return torch.log_softmax(logits / self.temperature, dim=-1)
        new = [pair for pair in dict.fromkeys(asked) if pair not in known]
        if new:
            rows = self.log_probs_of_branches(new, grad=grad, model=model, kept=kept)
            known |= {pair: row[: len(pair[1])] for pair, row in zip(new, rows, strict=True)}
        return pad_sequence([known[pair] for pair in asked], batch_first=True, padding_value=-inf)

    def direct_log_probs(
        self,
        input_ids: Tensor,
        mask: Tensor,
        width: int,
        model: torch.nn.Module | None = None,
        known: dict[Branching, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of direct replies within their reply trees, as TRL's rows hold them.

        Parameters
        ----------
        input_ids, mask
            Shape (B, P + C): prompts padded on the left, then replies of at most C = ``width`` tokens
            padded on the right; mask 0 on padding.
        model, known
            As in ``log_probs_of_branches``.

        Returns
        -------
        Tensor, Tensor
            Both shape (B, C), in nats; 0 where a token had no rival or is padding, or where the prompt is
            not one of this player's. Log-probabilities are differentiable if grad mode is on.
        """
        ids, real = input_ids.cpu().numpy(), mask.cpu().numpy().astype(bool)
        split = ids.shape[1] - width
        asked: dict[Branching, int] = {}
        where: list[tuple[int, int, int, int]] = []  # row, position, number in asked, branch
        branchings: dict[bytes, list[tuple[int, int, int]]] = {}
        for row in range(len(ids)):
            label = ids[row].tobytes() + real[row].tobytes()
            if label not in branchings:
                prompt = tuple(ids[row, :split][real[row, :split]].tolist())
                reply = tuple(ids[row, split:][real[row, split:]].tolist())
                branchings[label] = [
                    (position, asked.setdefault(branching, len(asked)), branch)
                    for position, branching, branch in self._branchings(prompt, prompt, reply)
                ]
            where += [(row, *found) for found in branchings[label]]
        zeros = torch.zeros((len(ids), width), device=input_ids.device)
        if not asked:
            return zeros, zeros
        log_p = self.log_probs_of_branches(
            list(asked), grad=torch.is_grad_enabled(), model=model, known=known
        )
        rows, positions, numbers, branches = (
            torch.as_tensor(column, device=input_ids.device) for column in zip(*where, strict=True)
        )
        chosen = zeros.index_put((rows, positions), log_p[numbers, branches])
        entropy = torch.special.entr(log_p.detach().exp()).sum(-1)
        return chosen, zeros.index_put((rows, positions), entropy[numbers])

    def _branchings(
        self, prompt: tuple[int, ...], start: tuple[int, ...], said: tuple[int, ...]
    ) -> Iterator[tuple[int, Branching, int]]:
        """Where an action that was ``said`` after ``start`` had rivals, in the reply tree of ``prompt``: position,
        branching, and which of its branches was taken. None where the prompt is not one of this player's."""
        tree = self.prompts.tree_of(prompt)
        for position, token in enumerate(said if tree else ()):
            tokens = tree.branches.get(said[:position])
            if tokens is not None:
                yield position, (start + said[:position], tokens), tokens.index(token)

    # --- reasoned replies -------------------------------------------------------------------------

    def reply_and_choice(self, tokens: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Cut ``completion_ids`` with ``choice_ids`` behind them apart again: a reply ends where the model ended it, or
        where it was cut off."""
        length = min(len(_cut_after(tokens, self.prompts.end_of_reply)), self.max_new_tokens)
        return tokens[:length], tokens[length:]

    def choice_log_probs(
        self,
        made: Sequence[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]],
        model: torch.nn.Module | None = None,
    ) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
        """How likely the constrained decodes were that chose where a reply could not be read.

        Parameters
        ----------
        made
            N times prompt, reply and ``choice_ids``; a prompt that is not one of this player's counts nothing.
        model
            Default the player's own.

        Returns
        -------
        list, Tensor, Tensor
            (number in ``made``, position in its choice) of each of M tokens that had a rival; their log-probabilities,
            differentiable if grad mode is on, and their entropies, both shape (M,), in nats.
        """
        asked, where, branches = [], [], []
        for number, (prompt, reply, choice) in enumerate(made):
            start = prompt + self._before_choice(reply)
            for position, branching, branch in self._branchings(prompt, start, choice):
                asked.append(branching)
                where.append((number, position))
                branches.append(branch)
        if not asked:
            return [], torch.zeros(0), torch.zeros(0)
        log_p = self.log_probs_of_branches(asked, grad=torch.is_grad_enabled(), model=model)
        chosen = log_p[np.arange(len(asked)), branches]
        return where, chosen, torch.special.entr(log_p.detach().exp()).sum(-1)

    def _before_choice(self, reply: Sequence[int]) -> tuple[int, ...]:
        """What stands between a prompt and the constrained decode after a ``reply`` that could not be read."""
        newline = self.tokenizer.encode("\n", add_special_tokens=False)
        return (*(token for token in reply if token != self.prompts.end_of_reply), *newline)

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        if self.style == "direct" or not seen:
            return self._walk(seen, uniforms) if self.draws_for_less(seen) else super().act(seen, uniforms)
        prompts, end = [self.prompts.ids(state) for state in seen], self.prompts.end_of_reply
        replies = self._replies(prompts, np.asarray(uniforms, dtype=float))
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in replies]
        # A reply that was cut off is not read: its last line may have had more to say ("I can COOPERATE or DEF").
        actions = [
            self.game.parse(text, state.legal_actions) if ids[-1:] == [end] else None
            for text, ids, state in zip(texts, replies, seen, strict=True)
        ]
        choices = [
            Decision(action, None, text, False, prompt, tuple(ids))
            for action, text, prompt, ids in zip(actions, texts, prompts, replies, strict=True)
        ]
        unread = [i for i, action in enumerate(actions) if action is None]
        for i, choice in zip(unread, self._fall_back(unread, seen, uniforms, replies), strict=True):
            choices[i] = choice
        return choices

    def _fall_back(self, unread, seen, uniforms, replies) -> list[Decision]:
        """One constrained decode for each reply that could not be read, continuing that reply."""
        said = [self._before_choice(replies[i]) for i in unread]
        states = [seen[i] for i in unread]
        # A sampled reply is said once: its contexts are not worth keeping, and the prompts of the others are.
        kept = self._kept.fork() if self._kept is not None else None
        choices = []
        for i, state, p in zip(unread, states, self._constrained(states, kept, said), strict=True):
            index = draw(np.cumsum(p), uniforms[i])
            reply = self.tokenizer.decode(replies[i], skip_special_tokens=True)
            choices.append(
                Decision(
                    state.legal_actions[index], None, reply, True, self.prompts.ids(state), tuple(replies[i]),
                    choice_ids=self.prompts.reply_tree(state.legal_actions).decisive(index),
                    cut_off=replies[i][-1:] != [self.prompts.end_of_reply],
                )
            )  # fmt: skip
        return choices

    def _replies(self, prompts: Sequence[tuple[int, ...]], uniforms: np.ndarray) -> list[list[int]]:
        """One reply per prompt, decided by ``uniforms``, shape (N,); ends with the end-of-reply token unless it was
        cut off at ``max_new_tokens``."""
        if self.generate is None and shares_prefixes(self.model):
            streams = [np.random.default_rng([*uniform.tobytes()]) for uniform in uniforms]
            return sample_replies(
                self.model,
                prompts,
                np.stack([stream.random(self.max_new_tokens) for stream in streams]),
                temperature=self.temperature,
                end=self.prompts.end_of_reply,
                kept=self._kept,
            )
        with torch.random.fork_rng():
            torch.manual_seed(zlib.crc32(uniforms.tobytes()))
            return (self.generate or self._generate)([list(ids) for ids in prompts])

    def _generate(self, prompts: list[list[int]]) -> list[list[int]]:
        """Sample with the model's own ``generate``, whatever its layers are."""
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id
        longest = max(len(ids) for ids in prompts)
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        with torch.no_grad():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=self.temperature,
                top_k=0,
                top_p=1.0,
                **UNTOUCHED,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=pad,
                eos_token_id=self.prompts.end_of_reply,
            )[:, longest:].tolist()
        return [_cut_after(reply, self.prompts.end_of_reply) for reply in output]


def _cut_after(tokens: Sequence[int], end: int) -> Sequence[int]:
    """``tokens`` up to the first ``end``, that included; all where there is none."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
