"""Reading of rows to predict from files, and writing of predictions."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.errors import DataError, MissingDependencyError, raise_problems
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.serving.predictor import Predictor

__all__ = ["Request", "predictions_table", "read_request", "write_predictions"]

ID_COLUMN, NEIGHBORS_COLUMN = "node_id", "neighbors"
# pandas reads a column with missing values as float64, which represents every integer up to here.
_LARGEST_ID = 2**53


@dataclass(frozen=True)
class Request:
    """Rows to predict, and the source of their encodings.

    Attributes
    ----------
    features : array
        Raw features ``[B, F]``.
    node_ids : Tensor or None
        Ids of observed nodes, int64 ``[B]``.
    neighbors : list of list of int or None
        Ids of the neighbours of each unseen node.
    encodings : Tensor or None
        Precomputed encodings, float32 ``[B, P]``.
    """

    features: Any
    node_ids: Tensor | None = None
    neighbors: list[list[int]] | None = None
    encodings: Tensor | None = None

    @property
    def has_structure(self) -> bool:
        """Whether node ids, neighbours or encodings are given."""
        return any(part is not None for part in (self.node_ids, self.neighbors, self.encodings))

    def inputs(self, predictor: Predictor) -> Rows:
        """Return student inputs."""
        return predictor.inputs(
            self.features, node_ids=self.node_ids, neighbors=self.neighbors, encodings=self.encodings
        )


def read_request(path: Path, predictor: Predictor, *, features: str = "feat") -> Request:
    """Read rows to predict.

    Parameters
    ----------
    path : Path
        ``.npy`` (features), ``.npz`` (a SciPy sparse matrix), ``.csv`` or ``.parquet`` (feature columns in
        training order; an optional column ``node_id`` of observed nodes, or ``neighbors`` with the ids of an unseen
        node's neighbours, separated by spaces), or ``.bin`` (a graph saved by ``dgl.save_graphs``).
    predictor : Predictor
        Its encodings contain the ids of the observed nodes.
    features : str
        Node field of the features of a graph.

    Raises
    ------
    DataError
        If the file is missing, has another format, or contains a value that is not a number; names column and row.
    """
    if not path.is_file():
        raise DataError(f"There is no file '{path}' to predict.", hint="Formats: .npy, .npz, .csv, .parquet, .bin.")
    readers = {
        ".npy": lambda: Request(_load_numpy(path)),
        ".npz": lambda: Request(_load_sparse(path)),
        ".csv": lambda: _from_frame(_load_csv(path), path),
        ".parquet": lambda: _from_frame(_load_parquet(path), path),
        ".bin": lambda: _from_graph(path, predictor, features),
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"'{path}' has the unsupported suffix '{path.suffix}'.", hint=f"Formats: {', '.join(readers)}.")
    return readers[path.suffix.lower()]()


def _load_numpy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            array: np.ndarray = map_npy(file)
    except NPY_DAMAGE as error:
        raise DataError(f"'{path}' is not an array of numbers written by numpy.save: {error}") from None
    return array


def _load_sparse(path: Path) -> Any:
    try:
        return sp.load_npz(path)
    except NPY_DAMAGE as error:
        raise DataError(f"'{path}' is not a matrix written by scipy.sparse.save_npz: {error}") from None


def _load_csv(path: Path) -> pd.DataFrame:
    try:
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0].tolist()
        if not all(_is_number(cell) for cell in first) or _counts_up(first):
            return pd.read_csv(path)
        # A first line of numbers is a row, not a header.
        frame = pd.read_csv(path, header=None)
    except (ValueError, OSError) as error:
        raise DataError(f"'{path}' is not a CSV table: {error}") from None
    frame.columns = [f"column {i}" for i in range(frame.shape[1])]
    return frame


def _counts_up(cells: list[str]) -> bool:
    """Whether the cells are 0, 1, 2, ... in any order, the names that pandas gives to unnamed columns."""
    return len(cells) > 1 and sorted(cells) == sorted(str(i) for i in range(len(cells)))


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def _load_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError:
        raise MissingDependencyError(
            "Reading Parquet files needs pyarrow.", hint="Install it with `pip install 'dgl-rbm[parquet]'`."
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"'{path}' is not a Parquet file: {error}") from None


def _from_frame(frame: pd.DataFrame, path: Path) -> Request:
    columns = [name for name in frame.columns if name not in (ID_COLUMN, NEIGHBORS_COLUMN)]
    numbers = frame[columns].apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna() & frame[columns].notna()
    for name in columns:
        if wrong[name].any():
            row = int(np.flatnonzero(wrong[name])[0])
            raise DataError(
                f"'{path}', column '{name}', row {row}: {frame[name].iloc[row]!r} is not a number.",
                hint=f"All columns but '{ID_COLUMN}' and '{NEIGHBORS_COLUMN}' are features and must be numbers.",
            )
    values = numbers.to_numpy(dtype=np.float32)
    if NEIGHBORS_COLUMN in frame and ID_COLUMN in frame:
        raise DataError(
            f"'{path}' has both a column '{ID_COLUMN}' and a column '{NEIGHBORS_COLUMN}'.",
            hint=f"Use '{ID_COLUMN}' for observed nodes, or '{NEIGHBORS_COLUMN}' for unseen ones.",
        )
    if NEIGHBORS_COLUMN in frame:
        return Request(values, neighbors=[_ids(cell, path, row) for row, cell in enumerate(frame[NEIGHBORS_COLUMN])])
    if ID_COLUMN in frame:
        return Request(values, node_ids=_node_ids(frame[ID_COLUMN], path))
    return Request(values)


def _node_ids(column: pd.Series, path: Path) -> Tensor:
    ids = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(ids) | (ids != np.floor(ids)) | (np.abs(ids) > _LARGEST_ID))
    if len(wrong):
        raise DataError(
            f"'{path}', column '{ID_COLUMN}', row {wrong[0]}: {column.iloc[wrong[0]]} is not a node id.",
            hint="Ids are whole numbers; omit the column for unseen nodes.",
        )
    return torch.from_numpy(ids.astype(np.int64))


def _ids(cell: object, path: Path, row: int) -> list[int]:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return []
    parts = list(cell) if isinstance(cell, (list, tuple, np.ndarray)) else str(cell).replace(",", " ").split()
    numbers = [float(part) if _is_number(part) else np.nan for part in parts]
    if any(not np.isfinite(number) or abs(number) > _LARGEST_ID for number in numbers):
        raise DataError(
            f"'{path}', column '{NEIGHBORS_COLUMN}', row {row}: {cell!r} is not a list of node ids.",
            hint="Separate ids by spaces; leave the cell empty for a node without neighbours.",
        )
    return [int(number) for number in numbers]


def _from_graph(path: Path, predictor: Predictor, features: str) -> Request:
    """Read a graph with the node ids of training; nodes that were not observed then are unseen."""
    from dgl_rbm.data.checks import graph_problems
    from dgl_rbm.data.file import FileConfig

    graph = FileConfig(path=str(path)).read_graph(path)
    raise_problems(graph_problems(graph), DataError, f"The graph in '{path}'")
    if features not in graph.ndata:
        raise DataError(
            f"The graph in '{path}' has no node field '{features}'; it has {sorted(graph.ndata) or 'none'}.",
            hint="Set the field with --features.",
        )
    store = predictor.encodings
    count = graph.num_nodes()
    if not store.dim:
        return Request(graph.ndata[features])
    ids = torch.arange(count)
    is_known = torch.isin(ids, store.node_ids)
    encoded = torch.zeros(count, store.dim)
    encoded[is_known] = store.known(ids[is_known])
    source, destination = graph.edges()
    of_unseen = ~is_known[destination]
    fresh = store.unseen(count, destination[of_unseen], source[of_unseen])
    encoded[~is_known] = fresh[~is_known]
    return Request(graph.ndata[features], encodings=encoded)


def predictions_table(probabilities: Tensor) -> pd.DataFrame:
    """Return a table with one row per node and the columns ``label``, ``p0`` to ``p{C-1}``."""
    frame = pd.DataFrame(probabilities.numpy(), columns=[f"p{c}" for c in range(probabilities.shape[1])])
    frame.insert(0, "label", probabilities.argmax(dim=1).numpy())
    return frame


def write_predictions(frame: pd.DataFrame, path: Path) -> None:
    """Write predictions as ``.csv``, ``.parquet`` or ``.npy`` (probabilities alone), atomically."""
    buffer = io.BytesIO()
    suffix = path.suffix.lower()
    if suffix == ".csv":
        buffer.write(frame.to_csv(index=False).encode())
    elif suffix == ".npy":
        np.save(buffer, frame.drop(columns="label").to_numpy(), allow_pickle=False)
    elif suffix == ".parquet":
        try:
            frame.to_parquet(buffer, index=False)
        except ImportError:
            raise MissingDependencyError(
                "Writing Parquet files needs pyarrow.", hint="Install it with `pip install 'dgl-rbm[parquet]'`."
            ) from None
    else:
        raise DataError(f"Predictions cannot be written to '{path}'.", hint="Formats: .csv, .parquet, .npy.")
    write_atomic(path, buffer.getvalue())
