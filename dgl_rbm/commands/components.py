"""`dgl-rbm components`: list components and their options."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from dgl_rbm.commands.base import guarded, stdout
from dgl_rbm.commands.options import JsonOption

__all__ = ["components"]


@guarded
def components(
    name: Annotated[str | None, typer.Argument(help="A kind (student) or a component (rbm).")] = None,
    component: Annotated[str | None, typer.Argument(help="A component of the kind named first.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List what exists, with every option, default and description."""
    from dgl_rbm.console.describe import component_summary, find_components, options_of
    from dgl_rbm.console.methods import print_methods

    if name in ("method", "methods"):
        print_methods(stdout(), component, as_json=as_json)
        return
    found = find_components(name, component)
    if as_json:
        entries = [
            {"kind": kind, "name": key, "summary": component_summary(config), "options": list(options_of(config))}
            for kind, key, config in found
        ]
        typer.echo(json.dumps(entries, indent=2, default=str))
        return
    console = stdout()
    if len(found) > 1 and component is None:
        table = Table()
        for title in ("kind", "name", "what it is"):
            table.add_column(title)
        for kind, key, config in found:
            table.add_row(kind, key, component_summary(config))
        console.print(table)
        console.print("`dgl-rbm components KIND NAME` lists a component's options, `... method` published methods.")
        return
    for kind, key, config in found:
        table = Table(title=f"{kind} {key}: {component_summary(config)}", title_justify="left")
        for title in ("option", "type", "default", "what it does"):
            table.add_column(title, overflow="fold")
        for option in options_of(config):
            default = "required" if option["required"] else json.dumps(option["default"], default=str)
            table.add_row(option["name"], option["type"], default, option["description"])
        console.print(table)
