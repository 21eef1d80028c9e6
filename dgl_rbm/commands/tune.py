"""`dgl-rbm tune`: search for options on validation nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import fail, gather, guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.commands.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    MethodOption,
    RecipeOption,
    RegularizerOption,
    SetOption,
    SettingOption,
    SplitOption,
    StudentOption,
    TeacherOption,
)

__all__ = ["tune"]


@guarded
def tune(
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
    device: DeviceOption = None,
    seeds: Annotated[
        str, typer.Option(help="Splits and starts that a trial is the mean of: 100-102. Report results on others.")
    ] = "100-102",
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; the first is the configuration as it is.")] = 30,
    space: Annotated[
        Path | None, typer.Option(help="YAML file of what may change; by default the paper's space and a little more.")
    ] = None,
    hide: Annotated[
        float,
        typer.Option(
            help="Share of the validation nodes that are held out and that trials are judged by; no epoch is chosen on "
            "them. In the inductive setting they are hidden as unseen nodes are."
        ),
    ] = 0.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; trials that are there are kept.")] = Path(
        "runs/tune"
    ),
    as_json: JsonOption = False,
) -> None:
    """Search for options on validation nodes alone. Started again after a stop, it continues."""
    from dgl_rbm.console.tune import best_as_json, print_best, run_search
    from dgl_rbm.experiments.grid import parse_seeds

    console = stderr()
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
        device=device,
    )
    with kept_on_interrupt(console, "trials", out):
        search = run_search(console, resolved, seeds=parse_seeds(seeds), trials=trials, space=space, out=out, hide=hide)
    if as_json:
        typer.echo(best_as_json(search))
    elif search.best.accuracy is not None:
        print_best(stdout(), search)
    if search.best.accuracy is None:
        fail(f"No trial could be trained to its end: {search.best.error}", None, 1)
