"""Order in which the cells of an experiment are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dgl_rbm.experiments.cell import Cell
from dgl_rbm.experiments.listener import Outcome

__all__ = ["Assignment", "CellQueue"]

_SECONDS_FOR_OTHERS = 1.0


@dataclass(frozen=True)
class Assignment:
    """A cell for a worker.

    Attributes
    ----------
    cell : Cell
    patience : float
        Seconds to wait while another process runs the cell.
    """

    cell: Cell
    patience: float = 0.0


class CellQueue:
    """Assigns cells such that no worker waits, for a teacher or for another process, as long as there is other work.

    Cells that other processes run come back at the end, in turn, until they are finished: a process that died has
    released them.

    Parameters
    ----------
    cells : sequence of Cell
    on_wait : callable
        Called once with the number of cells left, when other processes run all of them.
    """

    def __init__(self, cells: Sequence[Cell], on_wait: Callable[[int], None] = lambda cells: None) -> None:
        self._waiting = [(cell, cell.group) for cell in cells]
        self._taken_by_others: list[Cell] = []
        self._started: set[str] = set()
        self._ready: set[str] = set()
        self._last: dict[int, str] = {}
        self._on_wait = on_wait
        self._told = False

    def take(self, worker: int) -> Assignment | None:
        """Return the next cell for a worker, None if there is none left.

        Cells of the worker's own group come first, then those of a new group, of a finished one, of any.
        """

        def rank(item: tuple[int, tuple[Cell, str]]) -> tuple[int, int]:
            i, (_, group) = item
            if group not in self._started:
                return 1, i
            if group not in self._ready:
                return 3, i
            return (0 if group == self._last.get(worker) else 2), i

        if not self._waiting:
            return self._take_again()
        i, (cell, group) = min(enumerate(self._waiting), key=rank)
        del self._waiting[i]
        self._started.add(group)
        self._last[worker] = group
        return Assignment(cell)

    def _take_again(self) -> Assignment | None:
        if not self._taken_by_others:
            return None
        if not self._told:
            self._told = True
            self._on_wait(len(self._taken_by_others))
        return Assignment(self._taken_by_others.pop(0), _SECONDS_FOR_OTHERS)

    def done(self, outcome: Outcome) -> None:
        """Note how a cell ended; after one that succeeded or failed, the teacher of its group is there."""
        if outcome.taken:
            self._taken_by_others.append(outcome.cell)
        else:
            self._ready.add(outcome.cell.group)
