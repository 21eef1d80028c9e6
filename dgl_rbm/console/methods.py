"""Published methods on the command line: what there is, and where each one comes from."""

from __future__ import annotations

import json

import yaml
from rich.console import Console
from rich.table import Table

from dgl_rbm.methods import Method, load_method, method_names

__all__ = ["print_methods"]


def print_methods(console: Console, name: str | None, *, as_json: bool = False) -> None:
    """Print all methods in a table, or one of them with its provenance and departures.

    Raises
    ------
    UnknownNameError
        Where there is no method `name`.
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
        console.print("`dgl-rbm components method NAME` tells where it comes from and what is done otherwise here.")
    else:
        _print_method(console, found[0])


def _print_method(console: Console, method: Method) -> None:
    console.print(f"{method.name}: {method.summary}", highlight=False)
    console.print(f"\nPaper: {method.paper}\nSettings: {method.source}", highlight=False)
    if method.published is not None:
        where = f"table {method.published.table}, '{method.published.method}'"
        console.print(f"Published results: {where}.", highlight=False)
    console.print("\nOtherwise than published:", highlight=False)
    for departure in method.departures:
        console.print(f"  - {departure}", highlight=False)
    console.print("\nWithout the settings of a dataset:\n", highlight=False)
    console.print(yaml.safe_dump(method.values(), sort_keys=False).rstrip(), highlight=False)
    console.print(f"\nNext: dgl-rbm distill --method {method.name}", highlight=False)
