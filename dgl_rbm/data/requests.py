"""Reading of rows to predict from files, and writing of predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.data.parquet import write_parquet
from dgl_rbm.data.request_tables import ID_COLUMN, TableRequest
from dgl_rbm.data.tables import Table
from dgl_rbm.errors import DataError, raise_problems
from dgl_rbm.rows.memory_mapped import NPY_DAMAGE, map_npy
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.serving.predictor import Predictor

__all__ = ["Request", "predictions_table", "read_request", "write_predictions"]

_FORMATS = (".npy", ".npz", ".csv", ".parquet", ".bin")


@dataclass(frozen=True)
class Request:
    """Rows to predict, and the source of their encodings.

    Attributes
    ----------
    features : array
        Raw features ``[B, F]``.
    node_ids : list or None
        Own ids of observed nodes ``[B]``; None for a row that is encoded from its neighbours.
    neighbors : list of list or None
        Own ids of the neighbours of each unseen node.
    encodings : Tensor or None
        Precomputed encodings, float32 ``[B, P]``.
    ids : ndarray or None
        Ids of the rows ``[B]``, which predictions carry.
    """

    features: Any
    node_ids: list[Any] | None = None
    neighbors: list[list[Any]] | None = None
    encodings: Tensor | None = None
    ids: np.ndarray | None = None

    @property
    def has_structure(self) -> bool:
        """Whether node ids, neighbours or encodings are given."""
        return any(part is not None for part in (self.node_ids, self.neighbors, self.encodings))

    def inputs(self, predictor: Predictor) -> Rows:
        """Return student inputs."""
        if not predictor.encodings.dim:
            return predictor.inputs(self.features)
        return predictor.inputs(
            self.features, node_ids=self.node_ids, neighbors=self.neighbors, encodings=self.encodings
        )


def read_request(
    path: Path, predictor: Predictor, *, features: Sequence[str] | None = None, dataset: Any = None
) -> Request:
    """Read rows to predict.

    Parameters
    ----------
    path : Path
        ``.npy`` (features), ``.npz`` (a SciPy sparse matrix), ``.csv`` or ``.parquet`` (a table, see below), ``.bin``
        (a graph saved by ``dgl.save_graphs``), or a folder in DGL's CSV format.
    predictor : Predictor
        Its encodings contain the ids of the observed nodes.
    features : sequence of str, optional
        Node fields of the features of a graph, or patterns; those of the run by default.
    dataset : DatasetConfig, optional
        The run's dataset, whose options tell how graphs are read.

    Notes
    -----
    The features of a table are found by their names, if the run's features had names; otherwise all columns but
    ``node_id`` and ``neighbors`` are features, in the order of training. ``node_id`` holds
    own ids of nodes of the training graph, whose stored encodings are used. ``neighbors`` lists the ids of the
    neighbours of a new node, separated by spaces or as a JSON list. With both columns, a row whose id is empty or was
    not observed in training is encoded from its neighbours.

    Raises
    ------
    DataError
        If the file is missing, has another format, or contains a wrong value; names column, row and line.
    """
    if path.is_dir():
        return _from_folder(path, predictor, features, dataset)
    if not path.is_file():
        raise DataError(
            f"There is no file '{path}' to predict.", hint=f"Formats: {', '.join(_FORMATS)}, or a CSV folder."
        )
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return Request(_load_numpy(path))
    if suffix == ".npz":
        return Request(_load_sparse(path))
    if suffix == ".bin":
        return _from_graph(path, predictor, features, dataset)
    if suffix in (".csv", ".parquet"):
        found = TableRequest(Table.from_file(path, may_lack_header=True), predictor)
        return Request(found.features, node_ids=found.node_ids, neighbors=found.neighbors, ids=found.ids)
    raise DataError(f"'{path}' has the unsupported suffix '{path.suffix}'.", hint=f"Formats: {', '.join(_FORMATS)}.")


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


def _from_folder(path: Path, predictor: Predictor, features: Sequence[str] | None, dataset: Any) -> Request:
    """Read a CSV folder, whose ids are those of training; nodes that were not observed then are new."""
    from dgl_rbm.data.csv import CsvConfig

    config = dataset if isinstance(dataset, CsvConfig) else CsvConfig(path=str(path))
    names = features or predictor.feature_names
    update: dict[str, Any] = {"path": str(path), **({"features": list(names)} if names else {})}
    found = config.model_copy(update=update).read_tables(path, ascending=False)
    assert found.features is not None, "they are read"
    weight = _checked(found.weight, len(found.source), path)
    symmetrize = getattr(dataset, "symmetrize", False)
    encodings = _encoded(predictor, found.ids, found.source, found.target, weight, symmetrize)
    return Request(found.features, encodings=encodings, ids=found.ids.values)


def _from_graph(path: Path, predictor: Predictor, features: Sequence[str] | None, dataset: Any) -> Request:
    """Read a saved graph, whose ids are those of training; nodes that were not observed then are new."""
    from dgl_rbm.data.checks import graph_problems
    from dgl_rbm.data.edge_weights import find_weights
    from dgl_rbm.data.fields import find_features, find_field
    from dgl_rbm.data.file import FileConfig

    config = dataset if isinstance(dataset, FileConfig) else FileConfig(path=str(path))
    graph = config.read_graph(path)
    problems = graph_problems(graph)
    raise_problems(problems, DataError, f"The graph in '{path}'")
    rows = find_features(graph, config.features if features is None else _single(features), problems)
    own = None if config.node_ids is None else find_field(graph, config.node_ids, "node ids", problems)
    raise_problems(problems, DataError, f"The graph in '{path}'", hint="Set the field with --features.")
    if own is None and predictor.encodings.dim and not predictor.training_ids.are_positions:
        raise DataError(
            f"The graph in '{path}' has no node ids; this run was trained on a graph whose nodes have their own, such "
            f"as {predictor.training_ids.values[:3].tolist()}.",
            hint="Predict a table with a column 'node_id', or a CSV folder.",
        )
    ids = NodeIds.of(own, graph.num_nodes())
    source, target = (end.numpy() for end in graph.edges())
    weight = _checked(find_weights(graph, config.edge_weight, problems, []), len(source), path, problems)
    encodings = _encoded(predictor, ids, source, target, weight, getattr(dataset, "symmetrize", False))
    return Request(rows, encodings=encodings, ids=ids.values)


def _checked(weight: Any, count: int, path: Path, problems: Sequence[str] = ()) -> np.ndarray | None:
    """Return the weights of `count` edges, as training reads them; None without any."""
    from dgl_rbm.data.edge_weights import check_weights

    found = list(problems)
    checked = None if weight is None else check_weights(weight, count, found, [])
    raise_problems(found, DataError, f"The graph in '{path}'")
    return checked


def _single(fields: Sequence[str]) -> str | list[str]:
    """Return a single field as text, which keeps a field of more than two dimensions or another layout as it is."""
    return fields[0] if len(fields) == 1 else list(fields)


def _encoded(
    predictor: Predictor,
    ids: NodeIds,
    source: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    symmetrize: bool,
) -> Tensor | None:
    """Return stored encodings of observed nodes, and those of new ones from their neighbours; None without encoder."""
    store = predictor.encodings
    if not store.dim:
        return None
    count = len(ids)
    if symmetrize:
        source, target, weight = _in_both_directions(source, target, weight, count)
    positions = predictor.training_ids.positions(ids.values, missing="mark")
    is_known = store.are_known(positions)
    ends = torch.from_numpy(target), torch.from_numpy(source)
    of_unseen = ~is_known[ends[0]]
    weights = None if weight is None else torch.from_numpy(weight)[of_unseen]
    encoded = store.unseen(count, ends[0][of_unseen], positions[ends[1][of_unseen]], weights)
    encoded[is_known] = store.known(positions[is_known])
    return encoded


def _in_both_directions(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return each pair of neighbours once in each direction, with the largest weight, as `symmetrized` does."""
    keys, places = np.unique(np.concatenate([source * count + target, target * count + source]), return_inverse=True)
    largest = None
    if weight is not None:
        largest = np.zeros(len(keys), dtype=np.float32)
        np.maximum.at(largest, places.reshape(-1), np.concatenate([weight, weight]))
    return keys // count, keys % count, largest


def predictions_table(probabilities: Tensor, predictor: Predictor, ids: np.ndarray | None = None) -> pd.DataFrame:
    """Return a table with one row per node.

    Its columns are ``node_id``, if ids are given, the most probable ``label``, and one probability per class: ``p0``,
    ``p1`` and so on, or ``p_NAME`` for classes with text as names.
    """
    classes = predictor.classes or range(probabilities.shape[1])
    names = [f"p_{name}" if isinstance(name, str) else f"p{name}" for name in classes]
    frame = pd.DataFrame(probabilities.numpy(), columns=names)
    frame.insert(0, "label", np.asarray(predictor.labels_of(probabilities.argmax(dim=1))))
    if ids is not None:
        frame.insert(0, ID_COLUMN, ids)
    return frame


def write_predictions(frame: pd.DataFrame, path: Path) -> None:
    """Write predictions as ``.csv``, ``.parquet`` or ``.npy`` (probabilities alone), atomically."""
    buffer = io.BytesIO()
    suffix = path.suffix.lower()
    if suffix == ".csv":
        buffer.write(frame.to_csv(index=False).encode())
    elif suffix == ".npy":
        np.save(buffer, frame.drop(columns=["label", ID_COLUMN], errors="ignore").to_numpy(), allow_pickle=False)
    elif suffix == ".parquet":
        write_parquet(frame, buffer)
    else:
        raise DataError(f"Predictions cannot be written to '{path}'.", hint="Formats: .csv, .parquet, .npy.")
    write_atomic(path, buffer.getvalue())
