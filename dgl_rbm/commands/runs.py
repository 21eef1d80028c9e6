"""Commands of one run: train it, predict with it, score it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import INTERRUPTED, gather, guarded, stderr, stdout
from dgl_rbm.console.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    MaxHoursOption,
    MethodOption,
    RecipeOption,
    RegularizerOption,
    SeedOption,
    SetOption,
    SettingOption,
    SplitOption,
    StudentOption,
    TeacherOption,
)
from dgl_rbm.errors import DglRbmError, TimeBudgetError

__all__ = ["distill", "evaluate", "predict"]


@guarded
def distill(
    dataset: DatasetOption = None,
    method: MethodOption = None,
    recipe: RecipeOption = "published",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    regularizer: RegularizerOption = None,
    setting: SettingOption = None,
    split: SplitOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
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
    from dgl_rbm.console.runs import abandon, choose_folder, finish
    from dgl_rbm.console.summary import print_comparison

    resolved = gather(
        config,
        overrides,
        dataset=dataset,
        method=method,
        recipe=recipe,
        teacher=teacher,
        student=student,
        encoder=encoder,
        regularizer=regularizer,
        setting=setting,
        split=split,
        seed=seed,
        device=device,
    )
    folder = choose_folder(out, resolved, overwrite)
    console = stderr()

    def announce() -> None:
        console.print("Stopping after this step; Ctrl-C again stops at once.")

    def say_what_is_kept(reason: str) -> None:
        console.print(
            f"{reason} What is done is kept in {folder}; the same command with --out {folder} continues.",
            soft_wrap=True,
        )

    from dgl_rbm.distiller import Distiller

    try:
        with stop_between_steps(announce) as stop, progress_for(console) as progress:
            result = Distiller.from_config(resolved, callbacks=(progress, stop)).fit(out=folder, max_hours=max_hours)
            finish(result, folder)
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
        typer.echo(json.dumps(result.metrics, indent=2))
    else:
        print_comparison(stdout(), result.metrics, folder)


@guarded
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Rows: .npy, .npz, .csv, .parquet; or a graph: .bin.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write: .csv, .parquet or .npy; else the screen.")
    ] = None,
    features: Annotated[str, typer.Option(help="Feature field of a graph.")] = "feat",
    as_json: JsonOption = False,
) -> None:
    """Predict labels and probabilities of new rows with a saved student; no graph library is needed for rows."""
    from dgl_rbm.artifacts import load_run
    from dgl_rbm.console.tables import predictions_table, read_request, write_predictions

    predictor = load_run(run).predictor
    request = read_request(source, predictor, features=features)
    if predictor.encodings.dim and not request.has_structure:
        stderr().print(
            "Note: this student also reads structural encodings. Without a column 'node_id' or 'neighbors' every "
            "row is taken for a node without known neighbours.",
            soft_wrap=True,
        )
    frame = predictions_table(predictor.student.predict_proba(request.inputs(predictor)))
    if out is not None:
        write_predictions(frame, out)
        stderr().print(f"{len(frame)} predictions written to {out}.", soft_wrap=True)
    if as_json:
        typer.echo(frame.to_json(orient="records"))
    elif out is None:
        typer.echo(frame.to_csv(index=False), nl=False)


@guarded
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: JsonOption = False,
) -> None:
    """Load a saved student and score it again on the graph that it was made from."""
    from dgl_rbm.console.summary import print_scores
    from dgl_rbm.evaluation.saved import evaluate_saved

    metrics = evaluate_saved(run)
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    print_scores(stdout(), metrics)
