"""Outcomes of cells, and the receiver of an experiment's progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgl_rbm.experiments.cell import Cell

__all__ = ["Listener", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """Result of an attempt to run a cell.

    Attributes
    ----------
    cell : Cell
    metrics : dict or None
        Of a run that succeeded.
    error, trace : str
        Message and traceback of a run that failed.
    seconds : float
        Wall time.
    taken : bool
        Whether another process runs the cell, so that it was not run here.
    """

    cell: Cell
    metrics: dict[str, Any] | None
    error: str = ""
    trace: str = ""
    seconds: float = 0.0
    taken: bool = False


class Listener:
    """Base class of progress displays; every method does nothing by default."""

    def on_start(self, total: int, kept: int) -> None:
        """Called once, with the number of cells and of those that are finished already."""

    def on_cell(self, outcome: Outcome) -> None:
        """Called when a cell has finished or failed."""

    def on_wait(self, cells: int) -> None:
        """Called when other processes run all the `cells` cells that are left."""
