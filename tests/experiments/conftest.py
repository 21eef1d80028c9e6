"""A tiny grid: two variants that share a teacher, both settings, two seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dgl_rbm.experiments.cell import Cell, Variant, VariantMaker
from dgl_rbm.experiments.grid import expand
from dgl_rbm.experiments.options import ExperimentOptions

TEACHER: dict[str, Any] = {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 6}}
DATASET = {"num_nodes": 150, "num_features": 8}


def variant(name: str, **changes: Any) -> Variant:
    """Return a quick variant on a small synthetic graph."""
    values = {
        "dataset": DATASET,
        "teacher": TEACHER,
        "student": "mlp",
        "encoder": "none",
        "regularizer": "none",
        "training": {"epochs": 6},
    }
    return Variant(name, values | changes)


VARIANTS = (
    variant("plain"),
    variant(
        "mixture",
        student={"kind": "rbm", "num_experts": 3, "top_k": 2, "pretrain_epochs": 2},
        encoder={"kind": "deepwalk", "dim": 4, "walk_length": 4, "epochs": 1},
        regularizer={"kind": "krd", "noise_samples": 2},
    ),
)


def tiny_grid(settings: tuple[str, ...] = ("transductive", "inductive"), seeds: tuple[int, ...] = (0, 1)) -> list[Cell]:
    """Return the cells of both variants."""
    return expand_grid(VARIANTS, ["synthetic"], settings, seeds, device="cpu")


def expand_grid(
    variants: Iterable[Variant | VariantMaker],
    datasets: Sequence[str],
    settings: Sequence[str],
    seeds: Sequence[int],
    *,
    distinct: bool = True,
    **options: Any,
) -> list[Cell]:
    """Return the cells of a grid."""
    chosen = ExperimentOptions(datasets=datasets, settings=settings, seeds=seeds, **options)
    return expand(variants, chosen, distinct=distinct)


def run_cells(cells: list[Cell], out: Path | str, **options: Any) -> pd.DataFrame:
    """Run cells and return their results."""
    from dgl_rbm.experiments.runner import GridRun

    return GridRun(cells, ExperimentOptions(out=Path(out), **options)).execute()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder and the rows of the whole grid, run in this process."""
    from dgl_rbm.experiments.results import to_records

    out = tmp_path_factory.mktemp("finished")
    return out, to_records(run_cells(tiny_grid(), out))
