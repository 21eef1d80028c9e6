"""The options of `dgl-rbm study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["STUDY_NAMES", "StudyArgument", "StudyOutOption", "StudySeedsOption", "ValuesOption"]

# Not read from `dgl_rbm.studies`, whose imports would make every command start slowly.
STUDY_NAMES = ("annealing", "complexity", "experts", "inflated", "losses", "pareto", "routing", "teachers")

StudyArgument = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(STUDY_NAMES)}.")]
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
