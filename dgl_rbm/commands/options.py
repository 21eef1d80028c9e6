"""Options of the commands; their choices come from the registries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.methods.catalogue import method_names
from dgl_rbm.registry import DEFAULTS, REGISTRIES

__all__ = [
    "DEFAULT_METHODS",
    "STUDY_NAMES",
    "ConfigOption",
    "DatasetOption",
    "DatasetsOption",
    "DeviceOption",
    "EncoderOption",
    "JobsOption",
    "JsonOption",
    "MaxHoursOption",
    "MethodOption",
    "MethodsOption",
    "RecipeOption",
    "RegularizerOption",
    "SeedOption",
    "SeedsOption",
    "SetOption",
    "SettingOption",
    "SettingsOption",
    "SharedTeacherOption",
    "SplitOption",
    "StudentOption",
    "StudyArgument",
    "StudyOutOption",
    "StudySeedsOption",
    "TeacherOption",
    "ThreadsOption",
    "ValuesOption",
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
RegularizerOption = Annotated[
    str | None, typer.Option(help=_choices("Additional losses, several joined by '+'", "regularizer"))
]
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

# Comparisons and studies.
# The others need options, or predict nothing.
_TEACHERS = [name for name in REGISTRIES["teacher"].names() if name not in ("average", "logits", "none")]

MethodsOption = Annotated[
    str, typer.Option(help="Methods, joined by commas, or 'all' (`dgl-rbm components method` lists them).")
]
DatasetsOption = Annotated[str, typer.Option(help="Datasets' names or paths, joined by commas.")]
SettingsOption = Annotated[str, typer.Option(help="transductive, inductive, or both joined by a comma.")]
SeedsOption = Annotated[str, typer.Option(help="How many (10: seeds 0 to 9), or which: 100,101 or 100-109.")]
SharedTeacherOption = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help=f"In place of the methods' own, with the settings published for it: {', '.join(_TEACHERS)}, or several "
        "joined by '+'. Methods without one keep none.",
    ),
]
JobsOption = Annotated[int, typer.Option(min=1, help="Runs at once, each in a process of its own.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of each process; results are the same for the same.")]

# Baselines of each kind and the package's own; few enough to see something on `digits` within minutes.
DEFAULT_METHODS = "glnn,krd,nosmog,cohop,moe,rbm"

# Not read from `dgl_rbm.experiments.studies`, whose imports would make every command start slowly.
STUDY_NAMES = {
    "losses": "RbM without each of its losses, Table 5",
    "experts": "3 to 8 experts, Figure 5",
    "annealing": "of the memory's momentum, Table 10",
    "teachers": "other teachers, Tables 2 and 8",
    "inflated": "baselines of eight times the width, Table 3",
    "complexity": "parameters, multiply-adds and times, Table 9",
    "pareto": "accuracy against cost",
    "routing": "what the experts are for, Figure 4",
}

StudyArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="; ".join(f"{name}: {text}" for name, text in STUDY_NAMES.items()) + ".")
]
ValuesOption = Annotated[
    str | None,
    typer.Option(
        help="What is studied in place of the study's own values, joined by commas: numbers of experts (experts), "
        "values of Δ (annealing), teachers (teachers), widths (pareto, complexity)."
    ),
]
StudySeedsOption = Annotated[
    str | None, typer.Option(help="How many (10: seeds 0 to 9), or which: 100,101 or 100-109. Default: few, by study.")
]
StudyOutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder; runs that are there already are kept. Default: runs/study-NAME."),
]
