"""Finished cells on disk, from which a stopped experiment continues and which other processes share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgl_rbm.errors import ArtifactWarning, warn
from dgl_rbm.experiments.cell import Cell
from dgl_rbm.experiments.results import result_row
from dgl_rbm.run.files import is_finished
from dgl_rbm.runtime.checked_json import read_checked_json, write_checked_json
from dgl_rbm.runtime.checkpoint import DAMAGED_JSON, remove_temporary_files
from dgl_rbm.runtime.folders import make_folder
from dgl_rbm.runtime.locks import locked

__all__ = ["CellStore"]


@dataclass(frozen=True)
class CellStore:
    """Folder of an experiment.

    Attributes
    ----------
    out : Path
        Contains ``cells/``, one JSON file with all metrics per finished cell; ``shared/``, teachers and encodings that
        cells share; ``partial/``, checkpoints of cells under way; ``errors/``, the tracebacks of failed cells.
    keeps_runs : bool
        Whether each cell's whole run is saved under ``runs/``, its student included.
    """

    out: Path
    keeps_runs: bool = False

    def make(self) -> None:
        """Create the folders.

        Raises
        ------
        ConfigError
            If they cannot be created or written to.
        """
        make_folder(self.out, "--out")
        for name in ("cells", "partial"):
            make_folder(self.out / name, f"--out {self.out}: the folder '{name}'")

    @property
    def shared(self) -> Path:
        """Folder of the teachers and encodings."""
        return self.out / "shared"

    def cell_file(self, cell: Cell) -> Path:
        """Return the file of a finished cell."""
        return self.out / "cells" / f"{cell.key}.json"

    def error_file(self, cell: Cell) -> Path:
        """Return the file of a failed cell."""
        return self.out / "errors" / f"{cell.key}.txt"

    def run_folder(self, cell: Cell) -> Path:
        """Return the folder in which a cell's run writes its checkpoints, and remains if runs are kept."""
        return self.out / ("runs" if self.keeps_runs else "partial") / cell.key

    def metrics(self, cell: Cell) -> dict[str, Any] | None:
        """Return the metrics of a finished cell; None if it is not finished.

        Warns
        -----
        ArtifactWarning
            If its file is damaged; the cell counts as not finished.
        """
        if self.keeps_runs and not is_finished(self.run_folder(cell)):
            return None
        path = self.cell_file(cell)
        try:
            content = read_checked_json(path)
            if content["cell"] != cell.digest:
                return None
            metrics: dict[str, Any] = content["metrics"]
            # Metrics that give no row are damaged.
            result_row(cell, metrics)
        except FileNotFoundError:
            return None
        except (OSError, *DAMAGED_JSON) as error:
            warn(f"'{path}' is damaged: {error!r}. Its cell is run again.", ArtifactWarning)
            return None
        return metrics

    def keep(self, cell: Cell, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Write a finished cell; return its metrics as `metrics` will read them."""
        content = {"cell": cell.digest, "title": cell.title, "config": cell.config.to_values(), "metrics": metrics}
        write_checked_json(self.cell_file(cell), content)
        kept: dict[str, Any] = read_checked_json(self.cell_file(cell))["metrics"]
        return kept

    @contextmanager
    def claimed(self, cell: Cell) -> Iterator[None]:
        """Keep other processes from running a cell; remove temporary files that killed ones left of it.

        Raises
        ------
        BlockingIOError
            If another process runs it.
        """
        with locked(self.out / "partial" / f"{cell.key}.lock", wait=False, remove=True) as held:
            if held:
                remove_temporary_files(self.out / "cells", self.cell_file(cell).name)
                remove_temporary_files(self.run_folder(cell))
            yield

    def discard(self, cell: Cell) -> None:
        """Remove what a finished cell no longer needs, or all that a failed one has written."""
        folder = self.run_folder(cell)
        if self.keeps_runs and is_finished(folder):
            folder /= "checkpoints"
        shutil.rmtree(folder, ignore_errors=True)
