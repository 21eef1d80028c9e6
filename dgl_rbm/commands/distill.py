"""`dgl-rbm distill`: train a teacher and a student."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from dgl_rbm.commands.base import INTERRUPTED, gather, guarded, stderr, stdout
from dgl_rbm.commands.options import RUN_OPTIONS, JsonOption, MaxHoursOption, SeedOption, takes
from dgl_rbm.errors import DglRbmError, TimeBudgetError

__all__ = ["distill"]


@guarded
@takes(RUN_OPTIONS, recipe="published")
def distill(
    options: dict[str, Any],
    seed: SeedOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the run; a new one under runs/ by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a finished run in --out.")] = False,
    max_hours: MaxHoursOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher and a student, and compare them. Started again after a stop, it continues."""
    from dgl_rbm.console.interrupt import stop_between_steps
    from dgl_rbm.console.progress import progress_for
    from dgl_rbm.console.summary import print_comparison
    from dgl_rbm.run.folder import abandon, choose_folder, finish

    resolved = gather(**options, seed=seed)
    folder = choose_folder(out, resolved, overwrite)
    console = stderr()

    def announce() -> None:
        console.print("Stopping after this step; Ctrl-C again stops at once.")

    def say_what_is_kept(reason: str) -> None:
        option = f"--out {shlex.quote(str(folder))}"
        console.print(
            f"{reason} What is done is kept in {folder}; the same command with {option} continues.", soft_wrap=True
        )

    from dgl_rbm.run.distiller import Distiller

    try:
        with stop_between_steps(announce) as stop, progress_for(console) as progress:
            run = Distiller.from_config(resolved, callbacks=(progress, stop)).fit(out=folder, max_hours=max_hours)
            finish(run, folder)
    except TimeBudgetError as error:
        say_what_is_kept(error.message)
        raise typer.Exit(error.exit_code) from None
    except DglRbmError:
        abandon(folder)
        raise
    except KeyboardInterrupt:
        say_what_is_kept("Stopped.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(run.metrics.to_values(), indent=2))
    else:
        print_comparison(stdout(), run.metrics, folder)
