"""``pico``: a Llama of about a million parameters that is built and pre-trained here, in seconds to minutes.

Its byte-pair tokenizer is learned on the kit's own prompts, and it is pre-trained on uniformly random legal
play, so that the base model knows the language of the games and no strategy. Only the paper's games are in it: the
same pico on every machine, whatever games are registered there. All other words it spells, in tokens that these games
need none of: they are learned afterwards, from the same dialogues cut into pieces at random (as in BPE dropout,
Provilkov et al. 2020), with all else held, so that what pico is in the paper's games does not depend on them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.games import GAMES, PAPER_GAMES
from sepo_kit.games.base import REPLY_STYLES, Game, InformationState, UniformStrategy

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 1024
ALONE, CLOSING = r" ?\d+|\n", "[.,;?]"  # what is no part of a longer token, and what ends one
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
EPISODES_PER_GAME = 192
EPISODES_TOLD_APART = 24  # of each game, for the name of what was built; a few milliseconds
BATCH, LEARNING_RATE = 16, 2e-3
SPELLING = {"batch": 8, "steps": 120, "learning_rate": 1e-2, "tokens": 256}  # the last: of a dialogue
SEED = 0


def build_pico(steps: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Make and pre-train pico for ``steps`` steps; the same weights every time on the same machine."""
    dialogues = [text for name in PAPER_GAMES for text in random_dialogues(GAMES[name], EPISODES_PER_GAME)]
    tokenizer = learn_tokenizer(dialogues)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(
            LlamaConfig(
                **SHAPE,
                vocab_size=len(tokenizer),
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    pretrain(model, tokenizer, dialogues, steps)
    learn_to_spell(model, tokenizer, dialogues)
    return model, tokenizer


def words_of(game: Game) -> str:
    """A hash of all that the dialogues of ``game`` are made of: its rules, its actions, and what it shows in some
    random play. Cheap, since it is asked for whenever pico is loaded."""
    draw = Random(SEED)
    digest = hashlib.sha256(repr((game.spec.actions, *map(game.system_prompt, REPLY_STYLES))).encode())
    for _ in range(EPISODES_TOLD_APART):
        state = game.initial_state()
        while not state.is_terminal:
            chances = state.chance_outcomes()
            if chances:
                state = state.apply_chance(draw.choice(chances)[0])
                continue
            shown = [state.information(seat) for seat in state.actors]
            for seen in shown:
                digest.update(repr((game.render(seen), seen.legal_actions)).encode())
            state = state.apply(tuple(draw.choice(seen.legal_actions) for seen in shown))
    return digest.hexdigest()


class _Recorder(StrategyPolicy):
    """Uniform play that keeps every information state it met."""

    def __init__(self) -> None:
        super().__init__(UniformStrategy())
        self.met: list[list[tuple[InformationState, str]]] = []

    def act(self, seen, uniforms):
        choices = super().act(seen, uniforms)
        self.met.append([(s, c.action) for s, c in zip(seen, choices, strict=True)])
        return choices


def random_dialogues(game: Game, episodes: int) -> list[str]:
    """Prompts with uniformly random legal replies, as chat text, in both reply styles."""
    recorder = _Recorder()
    todo = [Match("none", "uniform", index) for index in range(episodes)]
    play_matches(game, recorder, todo, SEED, common_random_numbers=False)
    rng = np.random.default_rng(SEED)
    met = [pair for layer in recorder.met for pair in layer]
    chosen = rng.choice(len(met), size=min(len(met), 2 * episodes), replace=False)
    texts = []
    for number, index in enumerate(chosen):
        seen, action = met[index]
        style = REPLY_STYLES[number % len(REPLY_STYLES)]
        reply = action if style == "direct" else f"I pick at random.\n{action}"
        turns = (("system", game.system_prompt(style)), ("user", game.render(seen)), ("assistant", reply))
        texts.append("".join(f"{START}{role}\n{content}{END}\n" for role, content in turns))
    return texts


def learn_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most ``VOCABULARY`` tokens with a chat template.

    A token may hold a whole clause, which the usual pre-tokenizers forbid: the rules of a game are the same in every
    prompt, and so prompts are half as long. Numbers and line ends stand alone.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(ALONE), "isolated"),
            pre_tokenizers.Split(Regex(CLOSING), "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The trainer takes special tokens inside a text for words.
    said = (part for text in texts for part in re.split(f"{re.escape(START)}|{re.escape(END)}", text))
    tokenizer.train_from_iterator(said, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=CHAT_TEMPLATE
    )


def pretrain(model: LlamaForCausalLM, tokenizer, texts: list[str], steps: int) -> float:
    """Next-token training on ``texts``; returns the mean loss of the last tenth of the steps, in nats."""
    tokens = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    rng = np.random.default_rng(SEED)

    def batch() -> list[list[int]]:
        return [tokens[i] for i in rng.integers(len(tokens), size=BATCH)]

    losses = _train(model, tokenizer, batch, steps, LEARNING_RATE, "pre-training pico")
    return float(np.mean(losses[-max(1, steps // 10) :]))


def learn_to_spell(model: LlamaForCausalLM, tokenizer, texts: list[str]) -> None:
    """Train the rows of the embeddings that no token of ``texts`` has, on ``texts`` cut into pieces at random."""
    pieces = Pieces(tokenizer)
    tokens = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    known = torch.zeros(len(tokenizer), dtype=torch.bool)
    known[sorted({token for row in tokens for token in row})] = True
    rng = np.random.default_rng(SEED)
    met = torch.zeros_like(known)

    def batch() -> list[list[int]]:
        chosen = [pieces.cut(tokens[i], rng) for i in rng.integers(len(tokens), size=SPELLING["batch"])]
        chosen = [row[: SPELLING["tokens"]] for row in chosen]
        met[sorted({token for row in chosen for token in row})] = True
        return chosen

    rows = model.get_input_embeddings().weight
    hold = rows.register_hook(lambda gradient: gradient.masked_fill(known[:, None], 0.0))
    others = [p for p in model.parameters() if p is not rows]
    for parameter in others:
        parameter.requires_grad_(False)
    _train(model, tokenizer, batch, SPELLING["steps"], SPELLING["learning_rate"], "teaching pico to spell")
    for parameter in others:
        parameter.requires_grad_(True)
    hold.remove()
    with torch.no_grad():
        # What was never met is like its letters, a letter that was never met like the others.
        letters = met & torch.tensor([len(token) == 1 for token in pieces.names])
        usual = rows[letters if letters.any() else known].mean(0)
        for token in (~met & ~known).nonzero()[:, 0].tolist():
            parts = [part for part in pieces.letters(token) if met[part]]
            rows[token] = rows[parts].mean(0) if parts else usual


class Pieces:
    """The smaller tokens that a token was merged from."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.names: list[str] = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._number = {name: number for number, name in enumerate(self.names)}
        self._parts: dict[int, tuple[int, int]] = {}
        for left, right in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]:
            self._parts.setdefault(self._number[left + right], (self._number[left], self._number[right]))

    def cut(self, tokens: Sequence[int], rng: np.random.Generator) -> list[int]:
        """``tokens`` with merges undone, each with a probability that is drawn for all of them."""
        share, cut = rng.random(), []
        todo = list(reversed(tokens))
        while todo:
            token = todo.pop()
            parts = self._parts.get(token)
            if parts and rng.random() < share:
                todo += reversed(parts)
            else:
                cut.append(token)
        return cut

    def letters(self, token: int) -> list[int]:
        """The smallest tokens of ``token``."""
        return [self._number[letter] for letter in self.names[token] if letter in self._number]


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batch: Callable[[], list[list[int]]],
    steps: int,
    learning_rate: float,
    label: str,
) -> list[float]:
    """Next-token training; the losses, in nats."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2))
    model.train()
    losses = []
    for _ in tqdm(range(steps), desc=label, leave=False):
        rows = batch()
        longest = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        real = ids != tokenizer.pad_token_id
        loss = model(ids, attention_mask=real, labels=ids.masked_fill(~real, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses
