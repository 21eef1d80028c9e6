"""Tables of rows to predict: own ids of known nodes, neighbours of new ones, and columns of features."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dgl_rbm.data.cells import read_features, read_ids, split_list, whole_number
from dgl_rbm.data.csv_files import is_number
from dgl_rbm.data.tables import Table
from dgl_rbm.errors import DataError, closest
from dgl_rbm.rows.checked import is_missing
from dgl_rbm.serving.predictor import Predictor

__all__ = ["ID_COLUMN", "NEIGHBORS_COLUMN", "TableRequest"]

ID_COLUMN, NEIGHBORS_COLUMN = "node_id", "neighbors"


class TableRequest:
    """Rows of a table.

    Attributes
    ----------
    features : ndarray
        Raw features, float32 ``[B, F]``.
    ids : ndarray or None
        The cells of the column ``node_id``, which predictions carry.
    node_ids : list or None
        Own ids of the nodes to look up, integers or text; None for a row that is encoded from its neighbours.
    neighbors : list of list or None
        Own ids of the neighbours of each row.

    Raises
    ------
    DataError
        If a cell is no number, no id, or no list of ids, or an id is unknown and the table has no neighbours; names
        file, column, row and value.
    """

    def __init__(self, table: Table, predictor: Predictor) -> None:
        special = (ID_COLUMN, NEIGHBORS_COLUMN, "")
        columns = [name for name in table.names if name not in special]
        if not columns:
            raise DataError(f"{table.source} has no columns of features.")
        columns = predictor.columns_among(columns)
        table.load([*columns, *special])
        self._table, self._known = table, predictor.training_ids
        self.features = read_features(table, columns)
        self.neighbors = self._read_neighbors() if NEIGHBORS_COLUMN in table.names else None
        self.ids: np.ndarray | None = None
        self.node_ids: list[Any] | None = None
        if ID_COLUMN in table.names and self.neighbors is None and predictor.encodings.dim:
            self.ids = self._read_known_ids()
            self.node_ids = self.ids.tolist()
        elif ID_COLUMN in table.names:
            self.ids, self.node_ids = self._read_optional_ids()

    def _read_known_ids(self) -> np.ndarray:
        table, known = self._table, self._known
        ids = read_ids(table, ID_COLUMN, as_text=known.is_text)
        unknown = np.flatnonzero(known.positions(ids, missing="mark").numpy() < 0)
        if len(unknown):
            row = int(unknown[0])
            near = closest(str(ids[row]), known.values.tolist()) if known.is_text and len(known) <= 10_000 else None
            guess = f"Did you mean '{near}'? " if near else ""
            raise table.error(
                ID_COLUMN,
                row,
                "is not the id of a node of the training graph",
                f"{guess}A column '{NEIGHBORS_COLUMN}' with the ids of its neighbours encodes a new node.",
            )
        return ids

    def _read_optional_ids(self) -> tuple[np.ndarray, list[Any]]:
        """Return the cells as ids of the predictions, and the ids to look up; None for those of new nodes."""
        cells = self._table.column(ID_COLUMN)
        shown: list[Any] = []
        wanted: list[Any] = []
        for row, cell in enumerate(cells.tolist()):
            text = cell.strip() if isinstance(cell, str) else cell
            if is_missing(text) or (isinstance(text, str) and text.lower() in ("", "nan", "<na>")):
                shown.append(None)
                wanted.append(None)
                continue
            number = whole_number(text)
            is_fraction = number is None and not self._known.is_text and is_number(str(text))
            if is_fraction or (number is None and not isinstance(text, str)):
                raise self._table.error(ID_COLUMN, row, "is not a whole number", "Ids are integers or text.")
            own = number if number is not None and not self._known.is_text else str(text)
            is_new = isinstance(own, str) and not self._known.is_text
            shown.append(own)
            wanted.append(None if is_new else own)
        return np.array([*shown, None], dtype=object)[:-1], wanted

    def _read_neighbors(self) -> list[list[Any]]:
        cells = self._table.column(NEIGHBORS_COLUMN)
        return [self._parts(cell, row) for row, cell in enumerate(cells)]

    def _parts(self, cell: Any, row: int) -> list[Any]:
        if isinstance(cell, str):
            parts = _json_list(cell) or split_list(cell)
        elif isinstance(cell, (list, tuple, np.ndarray)):
            parts = list(cell)
        else:
            parts = [] if is_missing(cell) else [cell]
        if self._known.is_text:
            wrong = [part for part in parts if not isinstance(part, str) and whole_number(part) is None]
            ids: list[Any] = [str(part) for part in parts]
        else:
            ids = [whole_number(part) for part in parts]
            wrong = [part for part, number in zip(parts, ids, strict=True) if number is None]
        if wrong:
            raise self._table.error(
                NEIGHBORS_COLUMN,
                row,
                f"is not a list of node ids: {wrong[0]!r} is no id of this run",
                'Separate ids by spaces, or write a JSON list such as ["New York", "Paris"]; the cell of a node '
                "without neighbours is empty.",
            )
        return ids


def _json_list(cell: str) -> list[Any] | None:
    if not cell.strip().startswith("["):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None
