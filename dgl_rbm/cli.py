"""The command line: reads options, calls the library, prints; holds no logic of its own."""

from __future__ import annotations

import os
from typing import Annotated

# Before torch is loaded. Threads that wait by spinning make a run several times slower wherever another process wants
# one of the cores; waiting passively costs next to nothing where none does, and changes no result.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from dgl_rbm._version import __version__
from dgl_rbm.commands import comparisons, inspect, runs

__all__ = ["app", "main"]

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="dgl-rbm",
    help="Distil graph neural networks into students that read one row of features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)

# In the order in which the help lists them.
for _command in (
    runs.distill,
    runs.predict,
    runs.evaluate,
    comparisons.compare,
    comparisons.report,
    comparisons.study,
    comparisons.tune,
    inspect.components,
    inspect.init,
    inspect.validate,
    inspect.doctor,
):
    app.command(context_settings=_HELP)(_command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
