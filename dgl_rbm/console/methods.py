"""Published methods: a table of all, or one with its sources and departures."""

from __future__ import annotations

import json

import yaml
from rich.console import Console
from rich.table import Table

from dgl_rbm.errors import command
from dgl_rbm.methods import Method, load_method, method_names

__all__ = ["print_methods"]


def print_methods(console: Console, name: str | None, *, as_json: bool = False) -> None:
    """Print a table of all methods, or one method with its sources and departures.

    Raises
    ------
    UnknownNameError
        If there is no method `name`.
    """
    found = [load_method(each) for each in (method_names() if name is None else [name])]
    if as_json:
        plain = json.dumps([method.model_dump(mode="json") for method in found], indent=2)
        console.print(plain, soft_wrap=True, highlight=False)
    elif name is None:
        table = Table()
        for title in ("name", "title", "what it is"):
            table.add_column(title)
        for method in found:
            table.add_row(method.name, method.title, method.summary)
        console.print(table)
        console.print("`dgl-rbm components method NAME` describes its sources and departures.")
    else:
        _print_method(console, found[0])


def _print_method(console: Console, method: Method) -> None:
    console.print(f"{method.name}: {method.summary}", highlight=False)
    console.print(f"\nPaper: {method.paper}\nSettings: {method.source}", highlight=False)
    if method.published is not None:
        where = f"table {method.published.table}, '{method.published.method}'"
        console.print(f"Published results: {where}.", highlight=False)
    console.print("\nDepartures from the paper:", highlight=False)
    for departure in method.departures:
        console.print(f"  - {departure}", highlight=False)
    console.print("\nWithout the settings of a dataset:\n", highlight=False)
    console.print(yaml.safe_dump(method.values(), sort_keys=False).rstrip(), highlight=False)
    console.print(f"\nNext: {command('distill', '--method', method.name)}", highlight=False)
