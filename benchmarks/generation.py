"""Replies of SmolLM2 beside those of llama.cpp: the same GGUF file, prompts, numbers of replies, lengths and threads.

The prompts are those of Kuhn poker's 12 information states and of a dilemma's histories; each gets so many replies, all
of the same length, sampled from the whole vocabulary. Both read what prompts share once: llama.cpp by copying the
sequence's cells, which costs it nothing. It computes with the file's own quantised weights, the kit with the float32
ones that training needs. ``ratio`` is the kit's replies per second over llama.cpp's.

llama.cpp comes from PyPI and is built by pip, some ten minutes: ``pip install llama-cpp-python==0.3.36``.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import conclude, options, seconds

import sepo_kit as sk
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.games.base import POOLS
from sepo_kit.models import SMOLLM2
from sepo_kit.models.generation import sample_replies
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import LoadedModel
from sepo_kit.models.prefix_cache import shared_length
from sepo_kit.models.shipped import smollm2_file

TEMPERATURE, REPLY_TOKENS, REPLIES = 0.8, 18, 8
NEVER = -1  # no token ends a reply

try:
    import llama_cpp
except ImportError:
    llama_cpp = None


def prompts_of(model: LoadedModel, game_id: str, most: int) -> list[tuple[int, ...]]:
    """Token ids of the different prompts that an agent comes to, at most so many."""
    game = sk.get_game(game_id)
    agent = LanguageModel(model.model, model.tokenizer, game, style="reasoned", max_new_tokens=1)
    episodes = play_matches(game, agent, matches(game, POOLS, 4), seed=0)
    return list(dict.fromkeys(d.prompt_ids for e in episodes for d in e.decisions))[:most]


class LlamaCpp:
    """llama.cpp on ``file``: parallel sequences in one batch, a cell of the cache for what they share."""

    def __init__(self, file: Path, sequences: int, cells: int, threads: int) -> None:
        self.silent = llama_cpp.llama_log_callback(lambda *_: None)  # kept, since it is called later too
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(file).encode(), llama_cpp.llama_model_default_params()
        )
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = cells, 2_048, 512
        settings.n_seq_max, settings.kv_unified = sequences, True
        settings.n_threads = settings.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(2_048, 0, 1)
        self.sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for one in (llama_cpp.llama_sampler_init_temp(TEMPERATURE), llama_cpp.llama_sampler_init_dist(0)):
            llama_cpp.llama_sampler_chain_add(self.sampler, one)

    def replies(self, prompts: Sequence[tuple[int, ...]], each: int, length: int) -> list[list[int]]:
        """``each`` replies of ``length`` tokens to every prompt."""
        llama_cpp.llama_memory_clear(self.memory, True)
        # What the first and the last of them in order begin with, all do; of each a token is left to read.
        shared = min(shared_length(min(prompts), max(prompts)), min(map(len, prompts)) - 1)
        self._decode([(token, at, 0, False) for at, token in enumerate(prompts[0][:shared])])
        rows = [(row, prompt) for row, prompt in enumerate(p for p in prompts for _ in range(each))]
        firsts = range(0, len(rows), each)
        for first in firsts:  # a sequence for every prompt, copied to the others
            if first:
                llama_cpp.llama_memory_seq_cp(self.memory, 0, first, 0, shared)
        todo = [
            (token, at, first, at == len(rows[first][1]) - 1)
            for first in firsts
            for at, token in enumerate(rows[first][1])
            if at >= shared
        ]
        places = self._decode(todo)
        said = [[] for _ in rows]
        for first, place in zip(firsts, places, strict=True):
            for row in range(first, first + each):
                if row != first:
                    llama_cpp.llama_memory_seq_cp(self.memory, first, row, 0, -1)
                said[row].append(self._sample(place))
        for number in range(1, length):
            places = self._decode(
                [(said[row][-1], len(prompt) + number - 1, row, True) for row, prompt in rows]
            )
            for row, place in enumerate(places):
                said[row].append(self._sample(place))
        return said

    def _decode(self, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Compute (token, position, sequence, whether its logits are wanted): where in the batch the wanted stand."""
        for place, (token, position, sequence, wanted) in enumerate(tokens):
            self.batch.token[place], self.batch.pos[place] = token, position
            self.batch.n_seq_id[place], self.batch.seq_id[place][0] = 1, sequence
            self.batch.logits[place] = wanted
        self.batch.n_tokens = len(tokens)
        if llama_cpp.llama_decode(self.context, self.batch):
            raise RuntimeError(f"llama.cpp could not compute {len(tokens)} tokens")
        return [place for place, token in enumerate(tokens) if token[3]]

    def _sample(self, place: int) -> int:
        return llama_cpp.llama_sampler_sample(self.sampler, self.context, place)


def compare(model: LoadedModel, game_id: str, most: int, each: int, length: int, repeats: int) -> dict:
    """One row: replies per second of both."""
    prompts = prompts_of(model, game_id, most)
    asked = [prompt for prompt in prompts for _ in range(each)]
    uniforms = np.random.default_rng(0).random((len(asked), length))
    model.model.eval()
    row = {
        "model": model.name,
        "game": game_id,
        "prompts": len(prompts),
        "replies": len(asked),
        "tokens": length,
        "threads": torch.get_num_threads(),
    }

    said: list[list[int]] = []

    def ours() -> None:
        said[:] = sample_replies(model.model, asked, uniforms, temperature=TEMPERATURE, end=NEVER)

    row["kit_per_s"] = len(asked) / seconds(ours, repeats)
    assert {len(reply) for reply in said} == {length}
    if llama_cpp is not None:
        cells = sum(map(len, prompts)) + len(asked) * length
        theirs = LlamaCpp(smollm2_file(), len(asked), cells, torch.get_num_threads())
        row["llama_cpp_per_s"] = len(asked) / seconds(lambda: theirs.replies(prompts, each, length), repeats)
        row["ratio"] = row["kit_per_s"] / row["llama_cpp_per_s"]
    return row


def main() -> None:
    smoke = options(__doc__).smoke
    if llama_cpp is None and not smoke:
        print(
            "skipped: llama.cpp is missing; build it, some ten minutes: pip install llama-cpp-python==0.3.36"
        )
        return
    model = sk.load_model(SMOLLM2)
    cases = [("kuhn", 12), ("ipd", 24)]
    size = (1, 2, 1) if smoke else (REPLIES, REPLY_TOKENS, 3)
    conclude("generation", [compare(model, game, 2 if smoke else most, *size) for game, most in cases], smoke)


if __name__ == "__main__":
    main()
