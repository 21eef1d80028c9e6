"""Run the code blocks of README.md and docs/, page by page, in order, in one namespace and one temporary folder.

A comment directly before a block marks an exception: ``<!-- not run: reason -->`` with one of `REASONS`,
``<!-- exit: code -->`` for a command that is expected to fail with the output shown, or ``<!-- output -->`` for the
exact output of the preceding Python block.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dgl_rbm.cli import app
from dgl_rbm.registry import REGISTRIES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]

# A block that is not run must contain the text that belongs to its reason.
REASONS = {"pip": "pip install", "GPU": "cuda", "network": "ogbn-", "benchmark": "benchmarks/"}

# Module name of the classes that a page defines.
PAGE_MODULE = "__page__"

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|exit|output)(?:: ?(?P<value>.*?))? -->\n)?"
    r"^(?P<ticks>```+|~~~+)(?P<language>[\w{}-]*)[^\n]*\n(?P<code>.*?)^(?P=ticks)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^<!-- (?:not run|exit|output)\b", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block and the comment before it."""

    language: str
    code: str
    line: int
    mark: str | None
    value: str


def blocks_of(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(found["language"], found["code"], line, found["mark"], (found["value"] or "").strip())


def commands_of(code: str) -> Iterator[tuple[str, str]]:
    """Yield each command after ``$`` with the output below it."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip()


def run_command(command: str, expected_exit: int, output: str, place: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "dgl-rbm", f"{place}: '{program}' can only be shown in a block marked as not run"
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == expected_exit, f"{place}: {command}\n{result.output}"
    if expected_exit:
        assert result.output.strip() == output, f"{place}: {command}"


@pytest.fixture(autouse=True)
def no_trace_in_registries() -> Iterator[None]:
    """Remove the components that a page registers."""
    yield
    for registry in REGISTRIES.values():
        for kind in [kind for kind, config in registry._configs.items() if config.__module__ == PAGE_MODULE]:
            del registry._configs[kind]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Pages show the output without a folder of datasets, in a terminal of usual width.
    monkeypatch.delenv("DGL_RBM_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    namespace: dict[str, object] = {"__name__": PAGE_MODULE}
    printed = ""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        place = f"{page.relative_to(ROOT)}:{block.line}"
        if block.mark == "not run":
            continue
        if block.language == "python":
            capsys.readouterr()
            # The __future__ import of this file must not apply to the page.
            exec(compile(block.code, place, "exec", dont_inherit=True), namespace)
            printed = capsys.readouterr().out
        elif block.language == "console":
            expected_exit = int(block.value) if block.mark == "exit" else 0
            for command, output in commands_of(block.code):
                run_command(command, expected_exit, output, place)
        elif block.mark == "output":
            assert printed.strip() == block.code.strip(), place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_are_skipped_for_good_reasons_only(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    marked = [block for block in blocks_of(text) if block.mark is not None]
    assert len(marked) == len(MARK.findall(text)), "a mark does not stand directly before a block"
    for block in marked:
        if block.mark == "not run":
            assert block.value in REASONS, f"line {block.line}: '{block.value}' is none of {sorted(REASONS)}"
            assert REASONS[block.value] in block.code, f"line {block.line}: nothing here needs '{block.value}'"
        elif block.mark == "output":
            assert block.language == "text", f"line {block.line}: output stands in a block of text"
        else:
            assert block.language == "console", f"line {block.line}: only commands have an exit code"
            assert block.value in ("1", "2"), f"line {block.line}: '{block.value}' is no exit code of an error"
            assert len(list(commands_of(block.code))) == 1, f"line {block.line}: one failing command a block"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_is_marked_as_what_it_is(page: Path) -> None:
    """Code in a block without a language, or with another spelling of it, would never run."""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        assert block.language not in ("", "py", "python3", "pycon", "bash", "sh", "shell"), f"line {block.line}"
        if block.language == "console":
            assert block.code.startswith("$ "), f"line {block.line}: a console block starts with a command"


def test_there_are_blocks_to_run() -> None:
    """The regular expression above finds blocks and their marks."""
    text = "\n".join(
        ["a", "```python", "x = 1", "```", "<!-- not run: pip -->", "```console", "$ pip install x", "```"]
    )
    found = [(block.language, block.code, block.line, block.mark, block.value) for block in blocks_of(text)]
    assert found == [
        ("python", "x = 1\n", 3, None, ""),
        ("console", "$ pip install x\n", 7, "not run", "pip"),
    ]
    by_page = {page.name: [block.language for block in blocks_of(page.read_text(encoding="utf-8"))] for page in PAGES}
    for name in ("quickstart.md", "any_dgl_graph.md", "sampling.md", "errors.md", "contributing.md"):
        assert "python" in by_page[name]
