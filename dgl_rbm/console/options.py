"""The options that several commands share; their choices come from the registries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.methods.catalogue import method_names
from dgl_rbm.registry import DEFAULTS, REGISTRIES

__all__ = [
    "ConfigOption",
    "DatasetOption",
    "DeviceOption",
    "EncoderOption",
    "JsonOption",
    "MaxHoursOption",
    "MethodOption",
    "RecipeOption",
    "RegularizerOption",
    "SeedOption",
    "SetOption",
    "SettingOption",
    "SplitOption",
    "StudentOption",
    "TeacherOption",
]


def _choices(text: str, kind: str) -> str:
    """Return an option's help with what can be chosen and what is chosen unless it is given."""
    return f"{text}: {', '.join(REGISTRIES[kind].names())}. Default: {DEFAULTS[kind]}."


DatasetOption = Annotated[
    str | None,
    typer.Option(
        help="A dataset's name (`dgl-rbm components dataset`), ogbn-*, a graph saved by dgl.save_graphs, or a "
        f"CSV-dataset folder. Default: {DEFAULTS['dataset']}."
    ),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(help=_choices("Graph neural network to learn from, several joined by '+'", "teacher")),
]
StudentOption = Annotated[str | None, typer.Option(help=_choices("Model to train; it reads one row", "student"))]
EncoderOption = Annotated[
    str | None,
    typer.Option(help=_choices("Structural encodings beside the features, several joined by '+'", "encoder")),
]
RegularizerOption = Annotated[str | None, typer.Option(help=_choices("Targets from the neighbourhood", "regularizer"))]
SettingOption = Annotated[
    str | None, typer.Option(help="transductive, or inductive: unseen nodes stay hidden until the end.")
]
SplitOption = Annotated[
    str | None, typer.Option(help="0.6/0.2/0.2 (shares) or 20/30 (nodes per class) in place of the dataset's own.")
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        help=f"Published method, whose parts the other options change: {', '.join(method_names())}. "
        "`dgl-rbm components method NAME` tells where it comes from."
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(help="Of a method: 'published' settings where there are some for the dataset, or 'default' ones."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; `dgl-rbm init` writes one.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Any option by its path: --set student.num_experts=6")
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of split, weights and sampling.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
MaxHoursOption = Annotated[
    float | None,
    typer.Option(
        help="Stop after this many hours, keep what is done, and exit with code 75; the same command continues.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
