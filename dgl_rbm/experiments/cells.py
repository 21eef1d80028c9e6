"""Finished cells of a comparison: a JSON file each, by which one that was stopped continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgl_rbm.experiments.grid import Cell
from dgl_rbm.experiments.results import result_row
from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = ["cell_file", "keep_metrics", "kept_metrics"]


def cell_file(out: Path, cell: Cell) -> Path:
    """Return where a finished cell is kept."""
    return out / "cells" / f"{cell.key}.json"


def kept_metrics(out: Path, cell: Cell) -> dict[str, Any] | None:
    """Return the metrics of a finished cell, None where it is not there or cannot be read."""
    try:
        content = json.loads(cell_file(out, cell).read_text(encoding="utf-8"))
        if content["cell"] != cell.digest:
            return None
        metrics: dict[str, Any] = content["metrics"]
        # What gives no row is damaged, however it came to be.
        result_row(cell, metrics)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return metrics


def keep_metrics(out: Path, cell: Cell, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write a finished cell; return its metrics as they will be read back, should the comparison continue later."""
    content = {"cell": cell.digest, "title": cell.title, "config": cell.config.to_values(), "metrics": metrics}
    text = json.dumps(content, indent=1)
    write_atomic(cell_file(out, cell), text)
    kept: dict[str, Any] = json.loads(text)["metrics"]
    return kept
