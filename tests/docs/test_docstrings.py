"""Run the examples in docstrings, and check that the reference lists every public module."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dgl_rbm"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"}
WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


def is_public(name: str) -> bool:
    """The command line has a page of its own; `commands`, `console` and names with an underscore serve inside only."""
    parts = name.split(".")[1:]
    return not any(part.startswith("_") for part in parts) and parts[0] not in ("cli", "commands", "console")


def test_every_room_has_its_page_in_the_reference() -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference" / "api").glob("*.md")}
    del pages["index"]
    for room, text in pages.items():
        assert f"<!-- generated: modules of {room} -->" in text
    public = [name.split(".")[1:] for name in filter(is_public, MODULES)]
    assert set(pages) == {parts[0] if len(parts) > 1 else "foundations" for parts in public}


@pytest.mark.parametrize("name", sorted(filter(is_public, MODULES)))
def test_public_names_have_docstrings(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    missing = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert missing == []
