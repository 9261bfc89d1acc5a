"""The pages tell the truth: their programs run in the order they stand in, and print what the page says."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import sepo_kit as sk
from sepo_kit.cli import main
from sepo_kit.games.registry import GROUP

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / "tour.md", *sorted(p for p in (DOCS / "howto").glob("*.md") if p.stem != "index")]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: (language, text), in their order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(session: str, page: Path, names: dict[str, object]) -> int:
    """Run the examples of ``session`` with ``names``; how many there were."""
    test = doctest.DocTestParser().get_doctest(session, names, page.name, str(page), 0)
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append, clear_globs=False)
    assert not failures, "".join(failures)
    names.update(test.globs)
    return len(test.examples)


@pytest.mark.usefixtures("ready_pico")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_program_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = "\n".join(text for language, text in blocks(page) if language == "pycon")
    assert run(session, page, {}) >= 4


# --- the tutorial that builds a package -----------------------------------------------------------

TUTORIAL = DOCS / "your_game.md"


def written(folder: Path) -> dict[str, str]:
    """The files that the tutorial says to write, in ``folder``: its toml block, and its Python blocks one below the
    other."""
    found = {"pyproject.toml": "", "lemons.py": ""}
    for language, text in blocks(TUTORIAL):
        if name := {"toml": "pyproject.toml", "python": "lemons.py"}.get(language):
            found[name] += text + "\n"
    folder.mkdir()
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
    return found


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """What ``pip install -e`` leaves: the module on the path, and the project's entry points beside it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"][GROUP]
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    patch.syspath_prepend(folder)
    patch.setattr(sk.GAMES, "_known", dict(sk.GAMES._own))
    patch.setattr(sk.GAMES, "_loaded", False)
    for module in (value.partition(":")[0] for value in points.values()):
        patch.delitem(sys.modules, module, raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("ready_pico")
def test_the_tutorial_leads_to_a_trained_and_audited_agent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "lemons")
    names: dict[str, object] = {}
    commands = []
    for language, text in blocks(TUTORIAL):
        if language == "pycon":
            run(text, TUTORIAL, names)
        if language != "bash":
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            if line == "pip install -e ./lemons":
                install(tmp_path / "lemons", monkeypatch)
                continue
            assert program == "sepo-kit", f"no test runs {line!r}"
            assert main(arguments) == 0, capsys.readouterr().err
            commands.append(arguments[0])
    sys.modules.pop("lemons")
    assert commands == ["games", "train-sft", "train-sepo", "evaluate", "audit"]
    printed = capsys.readouterr().out
    assert "lemons: Market for lemons, 6 trades" in printed
    assert "lemons: worst case (exact) leads by" in printed
    page = Path(printed.rpartition("written: ")[2].strip())
    assert "Market for lemons" in page.read_text(encoding="utf-8")


def test_the_tutorial_builds_the_example(tmp_path):
    built = written(tmp_path / "lemons")
    example = ROOT / "examples" / "lemons"
    code = (example / "lemons.py").read_text(encoding="utf-8")
    assert ast.unparse(ast.parse(built["lemons.py"])) == ast.unparse(ast.parse(code))
    assert tomllib.loads(built["pyproject.toml"]) == tomllib.loads((example / "pyproject.toml").read_text())
