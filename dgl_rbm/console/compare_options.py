"""The options of `dgl-rbm compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from dgl_rbm.registry import REGISTRIES

__all__ = [
    "DEFAULT_METHODS",
    "DatasetsOption",
    "JobsOption",
    "MethodsOption",
    "SeedsOption",
    "SettingsOption",
    "SharedTeacherOption",
    "ThreadsOption",
]

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
