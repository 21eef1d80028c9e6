"""Sphinx extension that generates parts of pages: commands and options from the code, the gallery from the examples.

A line such as ``<!-- generated: commands -->`` in a page is replaced; `_GENERATORS` lists the names.
"""

from __future__ import annotations

import ast
import json
import pkgutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx

import dgl_rbm
from dgl_rbm.cli import app as command_line
from dgl_rbm.console.describe import component_summary, options_of
from dgl_rbm.registry import REGISTRIES
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.teachers.options import TeacherTraining


def _table(columns: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    for row in (columns, ["---"] * len(columns), *rows):
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def commands() -> Iterator[str]:
    """Yield Markdown lines: one section per command, with its arguments and options."""
    root = typer.main.get_command(command_line)
    above = root.context_class(root, info_name=command_line.info.name)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        context = command.context_class(command, info_name=name, parent=above)
        usage = " ".join(command.collect_usage_pieces(context))
        yield from (f"## {name}", "", command.help or "", "", "```text", f"dgl-rbm {name} {usage}", "```", "")
        records = [(parameter, parameter.get_help_record(context)) for parameter in command.get_params(context)]
        for kind, title in (("argument", "argument"), ("option", "option")):
            rows = [
                (_code(record[0]), record[1])
                for parameter, record in records
                if record is not None and parameter.param_type_name == kind
            ]
            if rows:
                yield from _table((title, "description"), rows)


def _options(config: type[Any], prefix: str, skip: Iterable[str] = ()) -> Iterator[str]:
    rows = [
        (
            _code(f"{prefix}{option['name']}"),
            _code(option["type"]),
            "required" if option["required"] else _code(json.dumps(option["default"], default=str, ensure_ascii=False)),
            option["description"],
        )
        for option in options_of(config)
        if option["name"] not in skip
    ]
    if rows:
        yield from _table(("option", "type", "default", "description"), rows)
    else:
        yield from ("It has no options.", "")


def options() -> Iterator[str]:
    """Yield Markdown lines: the options of a run, then those of every component."""
    components = {name: field for name, field in DistillConfig.model_fields.items() if name in REGISTRIES}
    yield from ("## A run", "")
    rows = [
        (f"[`{name}`](#{name}s)", field.description or "", ", ".join(map(_code, REGISTRIES[name].names())))
        for name, field in components.items()
    ]
    yield from _table(("component", "description", "choices"), rows)
    yield from _options(DistillConfig, "", skip=components)
    for name in components:
        yield from (f"## {name.capitalize()}s", "")
        registry = REGISTRIES[name]
        prefix = "encoder.0." if name == "encoder" else f"{name}."
        by_config: dict[type[Any], list[str]] = {}
        for kind in registry.names():
            by_config.setdefault(registry.config_class(kind), []).append(kind)
        for config, kinds in by_config.items():
            yield from ("### " + ", ".join(map(_code, kinds)), "", f"{component_summary(config)}.", "")
            yield from _options(config, prefix)


_DOCS = Path(__file__).resolve().parent.parent
_EXAMPLES = _DOCS.parent / "examples"
_FIRST_EXAMPLES = ("first_distillation", "your_own_graph", "inductive_unseen_nodes", "what_routing_learned")


def gallery() -> Iterator[str]:
    """Yield Markdown lines: one section per script, with its docstring, its figures and its code."""
    rank = {name: i for i, name in enumerate(_FIRST_EXAMPLES)}
    for path in sorted(_EXAMPLES.glob("*.py"), key=lambda path: (rank.get(path.stem, len(rank)), path.stem)):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        title, _, rest = text.partition(":")
        sentence, gap, more = rest.strip().partition("\n\n")
        yield from (f"## {title}", "", sentence[:1].upper() + sentence[1:] + gap + more, "")
        for picture in sorted((_DOCS / "_static" / "gallery").glob(f"{path.stem}*.png")):
            yield from (f"![{picture.stem.replace('_', ' ')}](_static/gallery/{picture.name})", "")
        yield from (f"```{{literalinclude}} ../examples/{path.name}", ":language: python", "```", "")


_API = _DOCS / "reference" / "api"
# The command line has its own page.
_WITHOUT_PAGE = ("cli", "commands", "console")


def public_modules() -> dict[str, list[str]]:
    """Return the names of all public modules by room; top-level modules belong to the room 'foundations'."""
    rooms: dict[str, list[str]] = {}
    for module in sorted(module.name for module in pkgutil.walk_packages(dgl_rbm.__path__, "dgl_rbm.")):
        parts = module.split(".")[1:]
        package = (_DOCS.parent / "dgl_rbm").joinpath(*parts).is_dir()
        if parts[0] not in _WITHOUT_PAGE and not package and not any(part.startswith("_") for part in parts):
            rooms.setdefault(parts[0] if len(parts) > 1 else "foundations", []).append(module)
    return rooms


def modules(room: str) -> Iterator[str]:
    """Yield Markdown lines: one section per module of a room."""
    for module in public_modules()[room]:
        yield from (f"## {module}", "", "```{eval-rst}", f".. automodule:: {module}", "```", "")


_GENERATORS = {
    **{f"modules of {room}": partial(modules, room) for room in public_modules()},
    "gallery": gallery,
    "commands": commands,
    "options": options,
    "teacher training": lambda: _options(TeacherTraining, "teacher.training."),
}


def insert(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the markers on a page."""
    for name, generate in _GENERATORS.items():
        mark = f"<!-- generated: {name} -->"
        if mark in source[0]:
            source[0] = source[0].replace(mark, "\n".join(generate()))


def always_read(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Read these pages in every build, since their content comes from outside the documentation."""
    pages = [f"reference/api/{page.stem}" for page in _API.glob("*.md")]
    return ["gallery", "reference/cli", "reference/configuration", "sampling", *pages]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", insert)
    app.connect("env-get-outdated", always_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
