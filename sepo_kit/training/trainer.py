"""``SepoTrainer``: GRPOTrainer with the kit's advantages, and with forward passes that waste nothing.

What a step plays and what its rows are is ``rollouts.py``'s, how a style scores them ``styles.py``'s; this is how the
rows are trained on. Overridden are three public methods of TRL's and transformers' trainers (``training_step``,
``log``, ``__init__``) and five private ones (``_generate_and_score_completions``, ``_calculate_rewards``,
``_prepare_inputs``, ``_compute_loss``, ``_get_per_token_logps_and_entropies``), each held by
``tests/training/test_trl_contract.py``. What that changes of GRPO is told in ``grpo.py``.

Memory of scoring reasoned replies: (rows, tokens, vocabulary) logits are never held. On token trees they are computed
for a few positions at a time (``models/scoring.py``), and a pass ends before the next begins
(``SEPOSettings.pass_tokens``). Where rows are padded, TRL folds them in tiles of at
most 4,096 tokens by 32,768 words; on a CPU at most eight such tiles in float32 live at once (4 GiB, less for fewer
tokens), on a GPU one.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from trl import GRPOTrainer

from sepo_kit.models.dropout import evaluating
from sepo_kit.training.memory import Gradients, until_it_fits
from sepo_kit.training.renewal import REFERENCE

NAMED = 3  # rows an error names
BY_TOKEN = ("completion_ids", "completion_mask", "tool_mask", "old_per_token_logps", "ref_per_token_logps")
FOREIGN = ("reward", "frac_reward", "completions/", "tools/")  # what TRL logs of rewards and of padded rows


def is_reference(model: torch.nn.Module) -> bool:
    """Whether ``model`` is the reference of the KL penalty now: its adapters off, or the reference's own on."""
    layer = next(m for m in model.modules() if isinstance(m, BaseTunerLayer))
    return layer.disable_adapters or layer.active_adapters == [REFERENCE]


def _chosen(inputs: dict, rows: list[int]) -> dict:
    """The ``rows`` of all that has one entry per row."""
    count = len(inputs["row"])
    return {
        name: value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == count else value
        for name, value in inputs.items()
    }


class SepoTrainer(GRPOTrainer):
    """GRPOTrainer whose advantages come from the kit's credit assignment.

    ``pieces``: in how many the rows of one forward pass are scored; more than one where memory ran out. ``split``: the
    same, of this step only, where several processes have to make one pass of many.
    """

    def __init__(self, *, rollouts, **kwargs) -> None:
        self.rollouts = rollouts
        self.pieces = self.split = 1
        self._training_rows: Tensor | None = None
        super().__init__(rollout_func=rollouts, **kwargs)

    @property
    def _number(self) -> int:
        """Steps taken."""
        return self.state.global_step // self.rollouts.settings.updates

    # --- what is trained on -----------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        device = output["advantages"].device
        output["advantages"] = torch.as_tensor(
            self.rollouts.advantages, dtype=torch.float32, device=device
        )  # (B,)
        output["row"] = torch.tensor(self.rollouts.numbers)  # TRL shuffles them
        if output["completion_ids"].shape[1] == 1:
            # Of one column TRL logs means over rows, whatever these count.
            output |= {name: pad(output[name], (0, 1)) for name in BY_TOKEN if name in output}
        for name, value in self.rollouts.metrics().items():
            self._metrics["train"][name].append(value)
        return output

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        """None, for every row of all processes: as many as were laid out, however many TRL asked for."""
        rows = len(completions) * self.accelerator.num_processes
        return torch.zeros((rows, 1), device=self.accelerator.device)

    def log(self, logs, start_time=None) -> None:
        """Without what TRL says of its own rewards: it has none here, the advantages are the kit's."""
        told = self._metrics["train"]
        for name in [n for n in told if n.startswith(FOREIGN)]:
            del told[name]
        super().log(logs, start_time)

    def _prepare_inputs(self, inputs):
        """Play, once a step; what is prepared stays as it is, so that a step can be repeated."""
        return inputs if isinstance(inputs, dict) else super()._prepare_inputs(inputs)

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs = self._prepare_inputs(inputs)
        step, before = super().training_step, Gradients(model)

        def attempt(pieces: int):
            before.restore()
            self.pieces = max(self.pieces, pieces)
            return step(model, inputs, num_items_in_batch)

        # The processes talk to each other during a step, so none can repeat it alone.
        most = len(inputs["row"]) if self.accelerator.num_processes == 1 else self.pieces
        loss = until_it_fits(
            attempt, self.pieces, most, f"{self.rollouts.label}: a step of {len(inputs['row'])} rows"
        )
        if self.accelerator.sync_gradients and not self.is_fsdp_enabled:
            self._average_gradients()
        return loss

    def _average_gradients(self) -> None:
        """Over all processes. Not by DDP's wrapper, which wants the same forward passes from each of them."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # no row of this process trains
                parameter.grad = torch.zeros_like(parameter)
        if self.accelerator.num_processes > 1:
            flat = self.accelerator.reduce(torch.cat([p.grad.flatten() for p in trained]), "mean")
            for parameter, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
                parameter.grad.copy_(part.view_as(parameter))

    def _compute_loss(self, model, inputs):
        mask = inputs["completion_mask"] * inputs["tool_mask"]  # (B, C)
        if self.beta == 0:  # with a KL penalty a row trains whatever it earned
            mask = mask * (inputs["advantages"] != 0)[:, None]
        loss = self._in_passes(model, {**inputs, "tool_mask": mask}, mask)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"{self.rollouts.label}: the loss of step {self._number + 1} is not finite, for "
                f"{self._broken_rows(model, inputs, mask)}; lower the learning rate; the last checkpoint is kept"
            )
        return loss

    def _in_passes(self, model, inputs, mask: Tensor) -> Tensor:
        """The loss, of which the last pass is still to be propagated back: what one pass holds is let go of before the
        next begins."""
        rows = mask.any(1)
        whole = self.rollouts.rows // self.rollouts.of // self.args.gradient_accumulation_steps
        passes = self._passes(inputs, rows)
        log, told, total = self._metrics["train"], {}, 0.0
        for part in passes:
            before = {name: len(values) for name, values in log.items()}
            self._training_rows = rows if len(passes) == 1 else rows[part]
            some = inputs if len(passes) == 1 else _chosen(inputs, part)
            # TRL divides by the rows it is given, not by those they stand for; its means are over their tokens.
            loss = super()._compute_loss(model, some) * (len(some["row"]) / whole)
            self._training_rows = None
            share = 1.0 if len(passes) == 1 else float(mask[part].sum() / mask.sum())
            for name, values in log.items():
                if new := values[before.get(name, 0) :]:
                    told[name] = told.get(name, 0.0) + share * sum(new)
                    del values[-len(new) :]
            if part is not passes[-1]:
                if torch.isfinite(loss):
                    self.accelerator.backward(loss)
                loss = loss.detach()
            total = total + loss
        self.split = 1
        for name, value in told.items():
            log[name].append(value)
        return total

    def _passes(self, inputs, rows: Tensor) -> list[list[int]]:
        """Numbers of the rows of each pass; all of them in one where no ``rows`` train."""
        where = rows.nonzero()[:, 0]
        if not len(where) or self.is_fsdp_enabled or not torch.is_grad_enabled():
            return [[]]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)[where]
        real = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)[where]
        passes = self.rollouts.style.passes(ids, real, inputs["completion_ids"].shape[1])
        if self.accelerator.num_processes > 1:  # TRL lets them talk to each other in a pass: all need as many
            self.split = len(passes)
            return [[]]
        where = where.tolist()
        return [[where[number] for number in part] for part in passes]

    def _broken_rows(self, model, inputs, mask: Tensor) -> str:
        """The rows whose own log-probabilities or advantages are not finite, by name."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        real = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            log_probs, _, _ = self._get_per_token_logps_and_entropies(model, ids, real, mask.shape[1])
        fine = (log_probs.isfinite() | (mask == 0)).all(1) & inputs["advantages"].isfinite()
        rows = sorted(inputs["row"][~fine.cpu()].tolist())
        names = [self.rollouts.name_of(row) for row in rows[:NAMED]]
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return ", ".join(names) + more if names else "no row alone"

    # --- scoring ----------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        **kwargs,
    ):
        """Equal rows once, rows that cannot train not at all, and all in ``pieces``."""
        if not self.is_fsdp_enabled:
            model = self.accelerator.unwrap_model(model)
        split = input_ids.shape[1]
        rows = torch.cat([input_ids, attention_mask], 1)
        wanted = attention_mask.sum(1) > 2  # a slot that no episode reached is a row of two tokens
        if self.is_fsdp_enabled:  # where all processes take part in every pass
            wanted = torch.ones_like(wanted)
        if self._training_rows is not None and not self.is_fsdp_enabled:
            wanted = self._training_rows
        log_probs = torch.zeros((len(rows), logits_to_keep), device=rows.device)
        entropies = torch.zeros_like(log_probs)
        if not wanted.any():
            return log_probs.requires_grad_(torch.is_grad_enabled()), entropies, None
        unique, place = torch.unique(rows[wanted], dim=0, return_inverse=True)

        def score(piece: Tensor) -> tuple[Tensor, Tensor]:
            ids, mask = piece[:, :split], piece[:, split:]
            first = int(mask.any(0).nonzero()[0])  # rows are sorted: short prompts share a piece
            return self._score(model, ids[:, first:], mask[:, first:], logits_to_keep, batch_size, kwargs)

        least = max(self.pieces, self.split)

        def in_pieces(pieces: int) -> list[tuple[Tensor, Tensor]]:
            if pieces > least:
                self.pieces = pieces
            again = torch.is_grad_enabled() and pieces > 1
            return [
                checkpoint(score, piece, use_reentrant=False) if again else score(piece)
                for piece in unique.chunk(pieces)
            ]

        scored = until_it_fits(
            in_pieces,
            least,
            max(least, len(unique)),
            f"{self.rollouts.label}: scoring {len(unique)} rows",
        )
        found, certain = (torch.cat(column)[place] for column in zip(*scored, strict=True))
        where = wanted.nonzero()[:, 0]
        log_probs = log_probs.index_copy(0, where, found.float())
        entropies = entropies.index_copy(0, where, certain.detach().float())
        return log_probs, entropies if compute_entropy else None, None

    def _score(
        self, model, ids: Tensor, mask: Tensor, width: int, batch_size: int | None, kwargs: dict
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of the replies, shape (B, ``width``)."""
        known = self._of_reference(model) if is_reference(model) else self._take_answers()
        padded = super()._get_per_token_logps_and_entropies

        def by_trl() -> tuple[Tensor, Tensor]:
            return padded(model, ids, mask, width, batch_size=batch_size, compute_entropy=True, **kwargs)[:2]

        # What only is compared with, as the policy that played, is no draw: several updates begin at a ratio about 1.
        with nullcontext() if torch.is_grad_enabled() else evaluating(model):
            return self.rollouts.style.score(model, ids, mask, width, known, by_trl)

    def _of_reference(self, model) -> dict:
        """What the reference says, asked for all that play asked the policy: laid out alike, equal weights say the same
        to the last digit."""
        rollouts = self.rollouts
        if rollouts.answers:
            rollouts.player.log_probs_of_branches(
                list(rollouts.answers), model=model, known=rollouts.reference
            )
        return rollouts.reference

    def _take_answers(self) -> dict | None:
        """What play asked this policy already, differentiable: once, as its graph is used up then."""
        if not torch.is_grad_enabled():
            return None
        answers, self.rollouts.answers = self.rollouts.answers, None
        return answers if self.pieces == 1 else None
