"""What all tests share: one thread, no network, a cache of their own, a model too small to know anything."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path

# Before torch, transformers and TRL are imported: by tests in this process and by notebooks started from one.
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A shell's background job ignores it, and so does all that its tests start: nobody could be interrupted.
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time: a failure here is a failure for everyone.
settings.register_profile("sepo_kit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("sepo_kit")


# Files that take minutes, the longest first: begun last, one of them would be all that still runs. Each minute or more,
# as measured with three workers on two cores.
LONG = (
    "pipeline/test_reproduce.py", "training/test_killed.py", "training/test_watch.py", "training/test_grpo.py",
    "training/test_trainer.py", "exact/test_bounds.py", "test_benchmarks.py", "evaluation/test_contenders.py",
    "pipeline/test_batch.py", "pipeline/test_launch.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))  # stable: the others stay as they are


known_modules = 0


def settle_modules() -> None:
    """Modules are there to stay, with a million objects: none of them is looked at again by the collection of garbage
    with which every training ends. Those that are first read within a test follow after it."""
    global known_modules
    if len(sys.modules) > known_modules + 50:
        known_modules = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_collection_finish() -> None:
    settle_modules()


def pytest_runtest_logfinish() -> None:
    settle_modules()


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--screenshots",
        metavar="FOLDER",
        help="where tests/browser leaves its pictures (default: a temporary folder)",
    )


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Path:
    """``SEPO_KIT_CACHE`` for the whole session, shared by parallel workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sepo_kit_cache"
    before = os.environ.get("SEPO_KIT_CACHE")
    os.environ["SEPO_KIT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["SEPO_KIT_CACHE"]
    else:
        os.environ["SEPO_KIT_CACHE"] = before


@pytest.fixture(scope="session")
def ready_pico(cache_folder) -> Path:
    """pico where this process and those it starts look for it, after a few steps instead of minutes: it reads the same
    words, and has learned little of them."""
    from sepo_kit.models import pico, shipped

    build = pico.build_pico

    def build_soon(steps: int):
        with pytest.MonkeyPatch.context() as few:
            few.setattr(pico, "EPISODES_PER_GAME", 8)
            few.setitem(pico.SPELLING, "steps", 2)
            return build(3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pico, "build_pico", build_soon)
        return shipped.pico_folder()


@pytest.fixture(autouse=True)
def no_figure_open():
    """Pyplot's figures are the whole process's: none of an earlier test or doctest, none for a later one."""

    def close() -> None:
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")

    close()
    yield
    close()


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-pair tokenizer learned on a few dialogues; not to be changed by a test."""
    import tiny

    return tiny.tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tokenizer):
    """Two layers, random weights; not to be changed by a test."""
    import tiny

    return tiny.model(tokenizer)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tokenizer, tiny_model) -> Path:
    """``tiny_model`` with its tokenizer, saved as ``load_model`` reads it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
