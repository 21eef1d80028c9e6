"""Output of `dgl-rbm components`: a table of all components, or the options of one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dgl_rbm.console.describe import component_summary, options_of

__all__ = ["print_components", "print_options"]


def print_components(console: Console, found: Sequence[tuple[str, str, type[BaseModel]]]) -> None:
    """Print a table of components, each as kind, name and config class."""
    table = Table()
    for title in ("kind", "name"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it is")
    for kind, name, config in found:
        table.add_row(kind, name, component_summary(config))
    console.print(table)
    console.print("`dgl-rbm components KIND NAME` lists a component's options, `... method` published methods.")


def print_options(console: Console, kind: str, name: str, config: type[BaseModel]) -> None:
    """Print the options of a component: name, type and default on a line, and what it does below it.

    A table would leave its widest column, the description, 20 characters of a terminal with 80.
    """
    console.print(Text(f"{kind} {name}: {component_summary(config)}", style="bold"))
    for option in options_of(config):
        default = "required" if option["required"] else f"= {json.dumps(option['default'], default=str)}"
        line = Text.assemble((option["name"], "bold cyan"), f": {option['type']} ", (default, "yellow"))
        console.print(Padding(line, (0, 0, 0, 2)))
        console.print(Padding(Text(option["description"]), (0, 0, 0, 6)))
