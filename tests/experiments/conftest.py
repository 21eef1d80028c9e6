"""A tiny grid: two variants that share a teacher, both settings, two seeds."""

from __future__ import annotations

from typing import Any

import pytest

from dgl_rbm.experiments.grid import Cell, Variant, expand

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
    return expand(VARIANTS, ["synthetic"], settings, seeds, device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder and the rows of the whole grid, run in this process."""
    from dgl_rbm.experiments.runner import run_cells

    out = tmp_path_factory.mktemp("finished")
    return out, run_cells(tiny_grid(), out, jobs=0)
