"""The command line: names the commands of `dgl_rbm.commands`."""

from __future__ import annotations

import os
from typing import Annotated

# Before torch is loaded. Threads that spin while they wait slow a run down several times if another process needs one
# of the cores; passive waiting costs next to nothing otherwise and changes no result.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dgl_rbm.console.imports import INTERRUPTED, quiet_imports

with quiet_imports():
    import typer

    from dgl_rbm._version import __version__
    from dgl_rbm.commands.compare import compare
    from dgl_rbm.commands.components import components
    from dgl_rbm.commands.distill import distill
    from dgl_rbm.commands.doctor import doctor
    from dgl_rbm.commands.evaluate import evaluate
    from dgl_rbm.commands.init import init
    from dgl_rbm.commands.predict import predict
    from dgl_rbm.commands.report import report
    from dgl_rbm.commands.study import study
    from dgl_rbm.commands.tune import tune
    from dgl_rbm.commands.validate import validate

__all__ = ["app", "main"]

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="dgl-rbm",
    help="Distil graph neural networks into students that read one row of features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)

# In the order of the help.
for _command in (distill, predict, evaluate, compare, report, study, tune, components, init, validate, doctor):
    app.command(context_settings=_HELP)(_command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    with quiet_imports():
        try:
            app()
        except KeyboardInterrupt:
            os.write(2, b"Stopped.\n")
            raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
