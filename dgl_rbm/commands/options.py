"""Options of the commands; their choices come from the registries.

Options that several commands share form a group, which a command takes as a whole: see `takes`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from dgl_rbm.commands.completion import complete_method, names_of
from dgl_rbm.experiments.executors import EXECUTORS
from dgl_rbm.experiments.options import DEFAULT_METHODS as _DEFAULT_METHODS
from dgl_rbm.experiments.options import ExperimentOptions, seeds_text
from dgl_rbm.methods.catalogue import method_names
from dgl_rbm.registry import DEFAULTS, REGISTRIES

__all__ = [
    "DEFAULT_METHODS",
    "EXPERIMENT_DEFAULTS",
    "EXPERIMENT_OPTIONS",
    "RUN_OPTIONS",
    "STUDY_NAMES",
    "JsonOption",
    "MaxHoursOption",
    "MethodsOption",
    "SeedOption",
    "SetOption",
    "StudyArgument",
    "ValuesOption",
    "takes",
]

F = TypeVar("F", bound=Callable[..., Any])


def takes(options: Mapping[str, Any], **defaults: Any) -> Callable[[F], F]:
    """Add options to a command, which receives those that have a value as a mapping, its first argument.

    Parameters
    ----------
    options : mapping of str to type
        Name to annotation.
    **defaults
        Default values; options without one are absent from the mapping unless they are given.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            chosen = {name: given.pop(name) for name in options}
            return function({name: value for name, value in chosen.items() if value is not None}, **given)

        hints = get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
            for name, parameter in list(signature(function).parameters.items())[1:]
        ]
        added = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=annotation)
            for name, annotation in options.items()
        ]
        # Typer reads both.
        command.__signature__ = Signature([*added, *own])  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*added, *own)}
        return command  # type: ignore[return-value]

    return decorate


def _choices(text: str, kind: str) -> str:
    """Return an option's help with its choices and its default."""
    return f"{text}: {', '.join(REGISTRIES[kind].names())}. Default: {DEFAULTS[kind]}."


DatasetOption = Annotated[
    str | None,
    typer.Option(
        help="A dataset's name (`dgl-rbm components dataset`), ogbn-*, a graph saved by dgl.save_graphs, or a "
        f"CSV-dataset folder. Default: {DEFAULTS['dataset']}.",
        autocompletion=names_of("dataset"),
    ),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(
        help=_choices("Graph neural network to learn from, several joined by '+'", "teacher"),
        autocompletion=names_of("teacher", "+"),
    ),
]
StudentOption = Annotated[
    str | None,
    typer.Option(help=_choices("Model to train; it reads one row", "student"), autocompletion=names_of("student")),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(help=_choices("Structural encodings beside the features, several joined by '+'", "encoder")),
]
RegularizerOption = Annotated[
    str | None,
    typer.Option(
        help=_choices("Additional losses, several joined by '+'", "regularizer"),
        autocompletion=names_of("regularizer", "+"),
    ),
]
SettingOption = Annotated[
    str | None, typer.Option(help="transductive, or inductive: unseen nodes stay hidden until the end.")
]
SplitOption = Annotated[
    str | None, typer.Option(help="0.6/0.2/0.2 (fractions) or 20/30 (nodes per class), instead of the dataset's own.")
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        help=f"Published method, whose parts the other options change: {', '.join(method_names())}. "
        "`dgl-rbm components method NAME` describes its sources.",
        autocompletion=complete_method,
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(help="Settings of a method: 'published', if there are any for the dataset, or 'default'."),
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
# The others need options or predict nothing.
_TEACHERS = [name for name in REGISTRIES["teacher"].names() if name not in ("average", "logits", "none")]

MethodsOption = Annotated[
    str, typer.Option(help="Methods, joined by commas, or 'all' (`dgl-rbm components method` lists them).")
]
DatasetsOption = Annotated[str, typer.Option(help="Datasets' names or paths, joined by commas.")]
SettingsOption = Annotated[str, typer.Option(help="transductive, inductive, or both joined by a comma.")]
SeedsOption = Annotated[
    str | None, typer.Option(help="A count (10: seeds 0 to 9) or a list: 100,101 or 100-109. Studies: few by default.")
]
SharedTeacherOption = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help=f"Replaces the methods' own, with the settings published for it: {', '.join(_TEACHERS)}, or several "
        "joined by '+'. Methods without one keep none.",
    ),
]
JobsOption = Annotated[int, typer.Option(min=1, help="Number of runs at once, each in its own process.")]
ThreadsOption = Annotated[
    int, typer.Option(min=1, help="Threads of each process. Results are reproducible for one number of threads.")
]
ExecutorOption = Annotated[
    str | None, typer.Option(help=f"Where runs are executed: {', '.join(EXECUTORS)}. Default: processes.")
]

# A copy, since importing `dgl_rbm.experiments.studies` would slow the start of every command.
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
        help="Values that replace the study's own, joined by commas: numbers of experts (experts), values of Δ "
        "(annealing), teachers (teachers), widths (pareto, complexity)."
    ),
]
# What a run consists of; `dgl_rbm.commands.base.gather` makes its configuration.
RUN_OPTIONS = {
    "dataset": DatasetOption,
    "method": MethodOption,
    "recipe": RecipeOption,
    "teacher": TeacherOption,
    "student": StudentOption,
    "encoder": EncoderOption,
    "regularizer": RegularizerOption,
    "setting": SettingOption,
    "split": SplitOption,
    "config": ConfigOption,
    "overrides": SetOption,
    "device": DeviceOption,
}

# Keyword arguments of `dgl_rbm.experiments.options.ExperimentOptions`.
EXPERIMENT_OPTIONS = {
    "datasets": DatasetsOption,
    "settings": SettingsOption,
    "seeds": SeedsOption,
    "recipe": RecipeOption,
    "teacher": SharedTeacherOption,
    "split": SplitOption,
    "overrides": SetOption,
    "device": DeviceOption,
    "jobs": JobsOption,
    "threads": ThreadsOption,
    "executor": ExecutorOption,
    "max_hours": MaxHoursOption,
}
DEFAULT_METHODS = ",".join(_DEFAULT_METHODS)
EXPERIMENT_DEFAULTS = {
    "datasets": ",".join(ExperimentOptions.datasets),
    "settings": ",".join(ExperimentOptions.settings),
    "seeds": seeds_text(ExperimentOptions.seeds),
    "recipe": ExperimentOptions.recipe,
    "jobs": 1,
    "threads": ExperimentOptions.threads,
}
