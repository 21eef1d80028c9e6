"""The options of `dgl-rbm study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["STUDY_NAMES", "StudyArgument", "StudyOutOption", "StudySeedsOption", "ValuesOption"]

# Not read from `dgl_rbm.studies`, whose imports would make every command start slowly.
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
