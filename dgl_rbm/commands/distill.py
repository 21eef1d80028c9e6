"""`dgl-rbm distill`: train a teacher and a student."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dgl_rbm.commands.base import INTERRUPTED, fail, gather, guarded, stderr, stdout
from dgl_rbm.commands.options import RUN_OPTIONS, JsonOption, MaxHoursOption, SeedOption, takes
from dgl_rbm.console.loading import DGL, TORCH
from dgl_rbm.errors import MissingDependencyError, TimeBudgetError

if TYPE_CHECKING:
    from dgl_rbm.run.folder import RunFolder
    from dgl_rbm.run.run import Run

__all__ = ["distill"]


@guarded(TORCH, DGL)
@takes(RUN_OPTIONS, recipe="published")
def distill(
    options: dict[str, Any],
    seed: SeedOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the run; a new one under runs/ by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a finished run in --out.")] = False,
    max_hours: MaxHoursOption = None,
    plots: Annotated[
        bool, typer.Option(help="Draw learning curves into the folder, if matplotlib is installed.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher and a student, and compare them. Started again after a stop, it continues."""
    from dgl_rbm.console.summary import print_comparison
    from dgl_rbm.experiments.run_figure import FIGURE
    from dgl_rbm.run.folder import claimed_folder

    with claimed_folder(out, gather(**options, seed=seed), overwrite) as folder:
        if folder.is_done:
            run = folder.finished_run()
            stderr().print(f"The run in {folder.path} was finished before.", soft_wrap=True)
        else:
            run = _train(folder, max_hours, plots)
    if as_json:
        typer.echo(json.dumps(run.metrics.to_values(), indent=2))
    else:
        figure = folder.path / FIGURE
        print_comparison(stdout(), run.metrics, folder.path, figure if figure.is_file() else None)


def _draw(run: Run, folder: Path, plots: bool) -> None:
    """Draw the run's figure, if matplotlib is installed; without `plots`, remove that of a run before."""
    from dgl_rbm.experiments.run_figure import FIGURE, draw_run

    (folder / FIGURE).unlink(missing_ok=True)
    if plots:
        with suppress(MissingDependencyError):
            draw_run(run, folder)


def _train(folder: RunFolder, max_hours: float | None, plots: bool) -> Run:
    """Train and save a run; on a stop or a failure print what is kept and exit."""
    from dgl_rbm.console.interrupt import stop_between_steps
    from dgl_rbm.console.progress import progress_for
    from dgl_rbm.run.distiller import Distiller

    console = stderr()
    option = f"--out {shlex.quote(str(folder.path))}"
    kept = f"What is done is kept in {folder.path}; the same command with {option} continues."

    def announce() -> None:
        console.print("Stopping after this step; Ctrl-C again stops at once.")

    try:
        with stop_between_steps(announce) as stop, progress_for(console) as progress:
            distiller = Distiller.from_config(folder.config, callbacks=(progress, stop))
            run = distiller.fit(out=folder.path, max_hours=max_hours)
            # Before the run counts as finished, so that a killed process draws it when it is started again.
            _draw(run, folder.path, plots)
            folder.finish(run)
            return run
    except TimeBudgetError as error:
        console.print(f"{error.message} {kept}", soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        console.print(f"Stopped. {kept}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        place = f"'{error.filename}': " if error.filename else ""
        hint = kept if folder.abandon() else "Nothing is kept; the folder of the run is removed."
        fail(f"{place}{error.strerror or error}.", hint, 1)
    except Exception:
        folder.abandon()
        raise
