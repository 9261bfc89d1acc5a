"""Which language models there are and how they are loaded: pico, SmolLM2 from its package, hub ids, folders.

Safetensors only, save that SmolLM2's package holds GGUF; never remote code. A run folder is a model too: its base,
with the adapters of its stages merged in, in order.
"""

from __future__ import annotations

import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants, try_to_load_from_cache
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.models import PICO, SMOLLM2
from sepo_kit.models.adapters import put_on
from sepo_kit.models.chat import end_of_reply, require_template
from sepo_kit.models.hub import downloaded, downloaded_hash
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.quiet import quiet
from sepo_kit.models.shipped import SMOLLM2_SHA256, pico_folder, smollm2_folder, write_model
from sepo_kit.runs import (
    ADAPTER,
    ADAPTERS,
    WEIGHTS,
    RunError,
    adapter_of,
    base_of,
    file_hash,
    first_line,
    is_out_of_memory,
    lineage,
    read_manifest,
    require_new_folder,
    weights_hash,
)

DEFAULTS = {"style": "direct", "temperature": 0.8, "max_new_tokens": 256}


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A model with its tokenizer; ``name`` is what it was loaded by.

    ``source``: the folder or hub id its files came from. ``style``, ``temperature``, ``max_new_tokens``: what a run was
    trained to play with; None where nothing is known. ``chain``: of a run, what it came from, the base first, then its
    stages with commit, code and adapter.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any
    source: str = ""
    style: str | None = None
    temperature: float | None = None
    max_new_tokens: int | None = None
    chain: tuple[dict[str, Any], ...] = ()

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        trained = {name: getattr(self, name) for name in DEFAULTS if getattr(self, name) is not None}
        said = "".join(f", {name} {value}" for name, value in trained.items())
        dtype = str(self.model.dtype).removeprefix("torch.")
        return (
            f"LoadedModel({self.name!r}: {count / 1e6:.1f}M parameters, {dtype} on {self.model.device}{said})"
        )

    def save(self, folder: Path | str) -> None:
        """Write model and tokenizer into ``folder``, as transformers and most servers read them; ValueError where it
        holds something already."""
        require_new_folder(folder)
        write_model(folder, self.model, self.tokenizer)


def load_model(
    name: str | Path, *, device: str | torch.device | None = None, step: int | None = None
) -> LoadedModel:
    """Load a model in float32 on a CPU, in its own precision on a GPU.

    Parameters
    ----------
    name
        "pico", "smollm2-135m", a run folder, a folder with a saved model, or a hub id "owner/name".
    device
        Default: a GPU where there is one.
    step
        Of a run: what it had learned by this step, one that it saved.

    Raises
    ------
    ValueError
        Unknown name or step, or a folder that holds neither a run nor a model.
    OSError
        The model's files are missing, cut short or changed.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded = _load(str(name), device) if step is None else _load_run(Path(name), device, step)
    loaded.model.to(device).eval()
    return loaded


def language_model(
    model: LoadedModel,
    game: Game | str,
    *,
    temperature: float | None = None,
    style: str | None = None,
    max_new_tokens: int | None = None,
    name: str | None = None,
) -> LanguageModel:
    """``model`` as an agent of ``game``; the parameters are those of ``LanguageModel``.

    None: as a run was trained; where nothing is known of that, direct replies at temperature 0.8, reasoned ones of at
    most 256 tokens.
    """
    given = {"temperature": temperature, "style": style, "max_new_tokens": max_new_tokens}
    trained = {what: getattr(model, what) for what in DEFAULTS}
    chosen = {
        what: next(value for value in (given[what], trained[what], usual) if value is not None)
        for what, usual in DEFAULTS.items()
    }
    return LanguageModel(
        model.model, model.tokenizer, get_game(game), name=name or Path(model.name).name, **chosen
    )


def _load(name: str, device: torch.device) -> LoadedModel:
    path = Path(name)
    if name == PICO:
        return _load_folder(pico_folder(), name, device)
    if name == SMOLLM2:
        return _load_folder(smollm2_folder(), name, device)
    if path.is_dir():
        if (path / "manifest.json").exists():
            return _load_run(path, device)
        return _load_folder(path, name, device)
    # "runs/mine" looks like a hub id too, but "runs" is where runs are, and where there is a folder it is one in it.
    local = path.is_absolute() or name.startswith((".", "runs/")) or path.parent.is_dir()
    if local or name.count("/") != 1:
        raise ValueError(
            f"unknown model {name!r}; allowed: {PICO!r}, {SMOLLM2!r}, an existing folder, or a hub id 'owner/name'"
        )
    _require_hub(name)
    return _load_pretrained(name, name, device)


def _require_hub(name: str) -> None:
    """OSError within seconds where a model is not in the cache and its hub cannot be reached, which the libraries try
    for a minute."""
    known = isinstance(try_to_load_from_cache(name, "config.json"), str)
    if known or constants.HF_HUB_OFFLINE or getproxies():
        return
    hub = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname, hub.port or 443), timeout=5).close()
    except OSError as error:
        raise OSError(
            f"model {name!r} is no folder and was not downloaded before, and {constants.ENDPOINT} cannot be reached "
            f"({error}); check the name, or the network"
        ) from None


def _load_folder(path: Path, name: str, device: torch.device) -> LoadedModel:
    if not (path / "config.json").exists():
        raise ValueError(f"{path} holds no model (no config.json) and no run (no manifest.json)")
    return _load_pretrained(str(path), name, device)


def _load_pretrained(source: str, name: str, device: torch.device) -> LoadedModel:
    dtype = torch.float32 if device.type == "cpu" else "auto"
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model, found = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
            tokenizer = _agreed(tokenizer, model)
            _quiet_routers(model)
    except Exception as error:  # the libraries raise many kinds here, safetensors its own
        raise OSError(f"model {name!r} cannot be loaded: {first_line(error)}") from error
    # What transformers knows to be tied or of another task is in neither list.
    odd = [("lacks", found["missing_keys"])]
    if Path(source).is_dir():
        odd.append(("has tensors without a place,", found["unexpected_keys"]))
    for what, names in odd:
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise OSError(f"model {name!r} cannot be loaded: {source} {what} {min(names)}{more}")
    return LoadedModel(name, model, tokenizer, source)


def _agreed(tokenizer, model: PreTrainedModel):
    """The tokenizer, agreed with the model on one token that ends a reply and one that pads."""
    if tokenizer.chat_template is not None:
        require_template(tokenizer)
        end = end_of_reply(tokenizer)
        if end is None:
            raise ValueError(
                "no token ends a reply: its chat template closes with none that is special, and its tokenizer has no "
                "eos_token; set one of them"
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for config in (model.config.get_text_config(), model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return tokenizer


def _quiet_routers(model: PreTrainedModel) -> None:
    """Routers of experts say nothing: their auxiliary loss, which nobody asks for, cannot read a token tree's mask."""
    for config in (model.config.get_text_config(), model.config):
        if hasattr(config, "output_router_logits"):
            config.output_router_logits = False


# --- run folders ----------------------------------------------------------------------------------


def kept_steps(run: Path | str) -> list[int]:
    """The steps whose adapter a run has kept, in order: what ``load_model`` takes as ``step``."""
    return sorted(int(folder.name.removeprefix("step-")) for folder in (Path(run) / ADAPTERS).glob("step-*"))


def _load_run(path: Path, device: torch.device, step: int | None = None) -> LoadedModel:
    manifest = read_manifest(path)
    adapter = adapter_of(path, step)
    if step is not None and not adapter.is_dir():
        kept = ", ".join(map(str, kept_steps(path)))
        raise RunError(f"{path} keeps no adapter of step {step}; kept: {kept or 'none'}")
    if step is None and manifest["status"] != "done":
        raise RunError(
            f"{path} has not finished (status {manifest['status']!r}); finish it by running it again"
        )
    if "base" not in manifest["request"] or not adapter.is_dir():
        raise RunError(
            f"{path} is a run that trained no model, or its {ADAPTER} was deleted or left out; name another, or "
            f"train it again as `sepo-kit runs show {path}` says"
        )
    chain = manifest.get("chain")
    if step is None:
        _require_unchanged(path, manifest)
    # An older run's adapter belongs on what it was trained from, a newer one's, and that of a step, on the raw model.
    raw = chain or step is not None
    below = raw_model(path)  # follows the runs below to their end, and says where there is none
    base = _load(below if raw else base_of(path, manifest["request"]), device)
    if chain and (now := identity(base)) != chain[0]:
        told = "sha256" if chain[0].get("sha256") else "revision"  # which a README alone may change
        known = {k: v for k, v in chain[0].items() if k == told and v and now.get(k) != v}
        if known and chain[0]["model"] == PICO:  # its last bits are the machine's that built it
            warnings.warn(f"{path} was trained on a pico that another machine or version built", stacklevel=4)
        elif known:
            raise RunError(
                f"{path} was trained on another {chain[0]['model']} than there is now: {known}; put it back"
            )
    if base.model.dtype != torch.float32 and device.type == "cpu":
        base.model.float()
    try:
        with quiet():
            merged = put_on(base.model, adapter).merge_and_unload()
    except Exception as error:
        if is_out_of_memory(error):  # the adapter is as it was
            raise
        raise RunError(
            f"the adapter in {adapter} cannot be read ({first_line(error)}); delete {path} to redo it"
        ) from error
    settings = manifest["request"].get("settings", {})
    played = {what: settings.get(what) for what in DEFAULTS}
    name = str(path) if step is None else f"{path}@{step}"
    return LoadedModel(name, merged, base.tokenizer, str(path), **played, chain=tuple(chain or ()))


def _require_unchanged(path: Path, manifest: dict[str, Any]) -> None:
    file, known = path / ADAPTER / WEIGHTS, manifest.get("adapter_sha256")
    if known and file.exists() and file_hash(file) != known:
        raise RunError(
            f"the adapter in {path / ADAPTER} cannot be read (it has changed since it was trained); delete {path} to "
            "redo it"
        )


def raw_model(run: Path) -> str:
    """What ``load_model`` takes for the model that ``run``, and the runs it was trained on top of, began with."""
    for folder, manifest in lineage(run):
        if manifest.get("chain"):
            return _found_base(folder, manifest["chain"][0])
        if "base" not in manifest["request"]:
            raise RunError(f"{folder} is a run of no language model; name one that began with a model")
        base = base_of(folder, manifest["request"])
    return base


def _found_base(path: Path, link: dict[str, Any]) -> str:
    """The base model of a run: where it was, or where it lies as seen from the run folder."""
    beside = path / link["beside"] if link.get("beside") else None
    return str(beside) if beside and beside.is_dir() and not Path(link["model"]).is_dir() else link["model"]


def identity(base: LoadedModel) -> dict[str, Any]:
    """The first link of a chain: a model that is no run, its name, and what tells it from others of that name."""
    link: dict[str, Any] = {"stage": "base", "model": base.name}
    if base.name == SMOLLM2:
        return link | {"sha256": SMOLLM2_SHA256}
    if not Path(base.source).is_dir():
        place = downloaded(base.source)
        return link | {"revision": place and place.name, "sha256": downloaded_hash(base.source)}
    return link | {"sha256": weights_hash(base.source)}


def origin(model: LoadedModel) -> tuple[dict[str, Any], ...]:
    """What ``model`` came from, the base first: of a run its chain, else its own identity."""
    return model.chain or (identity(model),)


def adapters_of(run: Path) -> list[Path]:
    """The adapters that make ``run`` out of its raw base model, in their order; none where ``run`` is no run."""
    found: list[Path] = []
    for folder, manifest in lineage(run):
        found.insert(0, folder / ADAPTER)
        if manifest.get("chain"):  # its adapter is for the raw model
            break
    return found


def chain_of(run: Path) -> list[dict[str, Any]]:
    """What the manifests of ``run`` and of what it was trained from say of it: the stages, the base left out."""
    chain: list[dict[str, Any]] = []
    for folder, manifest in lineage(run):
        if manifest.get("chain"):
            return [*manifest["chain"][1:], *chain]
        link = {name: manifest["request"].get(name) for name in ("stage", "game", "seed", "code")}
        own = {"commit": manifest.get("commit"), "adapter_sha256": file_hash(folder / ADAPTER / WEIGHTS)}
        chain.insert(0, {**link, **own})
    return chain
