"""`dgl-rbm components`: list components and their options."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dgl_rbm.commands.base import guarded, stdout
from dgl_rbm.commands.completion import complete_component, complete_kind
from dgl_rbm.commands.options import JsonOption
from dgl_rbm.console.loading import DGL, TORCH

__all__ = ["components"]


@guarded(TORCH, DGL)
def components(
    name: Annotated[
        str | None, typer.Argument(help="A kind (student) or a component (rbm).", autocompletion=complete_kind)
    ] = None,
    component: Annotated[
        str | None, typer.Argument(help="A component of the kind named first.", autocompletion=complete_component)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what exists, with every option, default and description."""
    from dgl_rbm.console.components import print_components, print_options
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
        print_components(console, found)
        return
    for kind, key, config in found:
        print_options(console, kind, key, config)
