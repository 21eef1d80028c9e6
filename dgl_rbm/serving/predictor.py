"""Predictor: a student with its encodings and feature normalisation; needs no graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError, DataWarning, warn
from dgl_rbm.rows.checked import id_array, neighbor_lists, optional_ids
from dgl_rbm.rows.convert import as_rows, column_names
from dgl_rbm.rows.neighbor_weights import weight_lists
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.runtime.process_state import inference
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student
from dgl_rbm.tasks.multiclass import predictions

__all__ = ["Predictor"]


@dataclass(frozen=True, repr=False)
class Predictor:
    """Predicts classes from raw feature rows.

    Attributes
    ----------
    student : Student
        Its inputs are normalised features, followed by encodings.
    encodings : Encodings
        Encodings of the observed nodes; empty if the run used no encoder.
    normalization : FeatureNormalization
        Applied to the raw features.
    ids : NodeIds or None
        The own ids of the nodes of the graph that the student was trained on, in which `node_ids` and `neighbors` are
        given; None for the positions in that graph.
    classes : tuple of int or str
        The label that each class number stands for, length C; empty for the numbers themselves.
    feature_names : tuple of str
        Names of the columns of the raw features, by which tables are read; empty if they have none.
    """

    student: Student
    encodings: Encodings
    normalization: FeatureNormalization
    ids: NodeIds | None = None
    classes: tuple[int | str, ...] = ()
    feature_names: tuple[str, ...] = ()

    @property
    def num_features(self) -> int:
        """Number of columns of the raw features."""
        return self.student.in_dim - self.encodings.dim

    @inference
    def inputs(
        self,
        features: Any,
        *,
        node_ids: Any | None = None,
        neighbors: Any | None = None,
        neighbor_weights: Any | None = None,
        encodings: Any | None = None,
    ) -> Rows:
        """Return student inputs, float32 ``[B, F + P]``.

        Without `node_ids`, `neighbors` and `encodings`, every row is treated as a node without known neighbours: its
        encoding is zero.

        Parameters
        ----------
        features : array_like
            Raw features, shape ``[B, F]``: an array, a tensor, a sparse matrix, or a table, whose columns are found by
            the names of the training features, if these had names.
        node_ids : array_like of int or str, optional
            Own ids of observed nodes, shape ``[B]``; their stored encodings are used. Beside `neighbors`, rows whose id
            is None, or not that of an observed node, are encoded from their neighbours.
        neighbors : sequence of sequences of int or str, optional
            Own ids of the observed neighbours of each unseen node; an empty list for a node without any. Nodes that
            were hidden from training are ignored.
        neighbor_weights : sequence of sequences of float, optional
            Weights from 0 on of the edges to these neighbours, for a graph with edge weights; equal by default.
        encodings : array_like, optional
            Precomputed encodings, float32 ``[B, P]``, instead of both.

        Raises
        ------
        DataError
            If shapes do not match, an argument contains anything but ids or numbers, or an id is unknown.

        Warns
        -----
        DataWarning
            If `neighbors` contains ids that are not of the training graph; these are ignored.
        """
        names = column_names(features) if self.feature_names else ()
        rows = as_rows(features, columns=self.columns_among(names) if names else ())
        if rows.shape[1] != self.num_features:
            raise DataError(
                f"The features have {rows.shape[1]} columns; this run was trained on {self.num_features}.",
                hint=f"The {self.encodings.dim} columns of encodings are appended automatically: "
                "pass node_ids, neighbors or encodings."
                if self.encodings.dim
                else None,
            )
        count = rows.shape[0]
        if neighbor_weights is not None and neighbors is None:
            raise DataError("neighbor_weights belong to neighbors, which are missing.", hint="Pass both.")
        if encodings is not None:
            if node_ids is not None or neighbors is not None:
                raise DataError("encodings replace node_ids and neighbors: pass one or the other.")
            found = self._given(encodings, count)
        elif neighbors is None:
            found = self._none(count) if node_ids is None else self._known(node_ids, count)
        else:
            found = self._from_neighbors(neighbors, neighbor_weights, count)
            if node_ids is not None:
                of_known, positions = self._known_among(node_ids, count)
                found[of_known] = self.encodings.known(positions)
        return hstack(self.normalization.apply(rows), found)

    def __repr__(self) -> str:
        parts = [f"{self.student.kind}", f"{self.num_features} features", f"{self.student.num_classes} classes"]
        if self.encodings.dim:
            parts.append(f"{self.encodings.dim} encodings of {len(self.encodings.node_ids):,} nodes")
        return f"Predictor({', '.join(parts)})"

    def columns_among(self, names: Sequence[str]) -> list[str]:
        """Return which of a table's columns are the features, in the order of training.

        Parameters
        ----------
        names : sequence of str
            Names of the table's columns.

        Returns
        -------
        list of str
            The names of the training features; all `names`, in their order, if the table has none of those.

        Raises
        ------
        DataError
            If the table has some of the training features, but not all.

        Warns
        -----
        DataWarning
            If the table has other columns beside the features.
        """
        missing = [name for name in self.feature_names if name not in names]
        if len(missing) == len(self.feature_names):
            return list(names)
        if missing:
            raise DataError(
                f"The table lacks the features {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}.",
                hint=f"The run was trained on {len(self.feature_names)} features: {', '.join(self.feature_names[:10])}"
                f"{', …' if len(self.feature_names) > 10 else ''}.",
            )
        others = [name for name in names if name not in self.feature_names]
        if others:
            warn(
                f"The columns {', '.join(others[:5])}{' and others' if len(others) > 5 else ''} of the table are no "
                "features of this run and are not used.",
                DataWarning,
            )
        return list(self.feature_names)

    def predict_proba(self, features: Any, **structure: Any) -> Tensor:
        """Return class probabilities, float32 ``[B, C]``; arguments as for `inputs`."""
        return self.student.predict_proba(self.inputs(features, **structure))

    def predict(self, features: Any, **structure: Any) -> Tensor | np.ndarray:
        """Return the most probable class of each row, as the labels of the training graph; arguments as for `inputs`.

        Returns
        -------
        Tensor or ndarray
            int64 tensor ``[B]`` if the labels were integers, array of str ``[B]`` if they were text.
        """
        return self.labels_of(predictions(self.predict_proba(features, **structure)))

    @inference
    def labels_of(self, numbers: Tensor) -> Tensor | np.ndarray:
        """Return the labels that class numbers, int64 ``[B]``, stand for; see `predict`."""
        if self.classes in ((), tuple(range(len(self.classes)))):
            return numbers
        if all(isinstance(name, int) for name in self.classes):
            return torch.tensor(self.classes, dtype=torch.int64)[numbers]
        names: np.ndarray = np.array([str(name) for name in self.classes], dtype=object)[numbers.numpy()]
        return names

    @cached_property
    def training_ids(self) -> NodeIds:
        """Own ids of the training graph; for runs of former versions, the positions up to the last observed node."""
        observed = self.encodings.node_ids
        return self.ids or NodeIds.of(None, int(observed[-1]) + 1 if len(observed) else 0)

    def _none(self, count: int) -> Tensor:
        return torch.zeros(count, self.encodings.dim, dtype=torch.float32)

    def _given(self, encodings: Any, count: int) -> Tensor:
        found = as_rows(encodings, what="encodings")
        if tuple(found.shape) != (count, self.encodings.dim):
            raise DataError(
                f"The encodings of {count} rows of features have shape {tuple(found.shape)}; expected "
                f"{(count, self.encodings.dim)}."
            )
        return found if isinstance(found, Tensor) else found.to_dense()

    def _known(self, node_ids: Any, count: int) -> Tensor:
        ids = id_array(node_ids)
        _check_length(ids, count)
        positions = self.training_ids.positions(ids)
        hidden = np.flatnonzero(~self.encodings.are_known(positions).numpy())
        if len(hidden):
            raise DataError(
                f"node_ids, position {hidden[0]}: node {ids.tolist()[hidden[0]]!r} was hidden from training and has "
                f"no stored encoding; so were {len(hidden) - 1} others.",
                hint="Pass the ids of its neighbours: neighbors=[[...], ...].",
            )
        return self.encodings.known(positions)

    def _known_among(self, node_ids: Any, count: int) -> tuple[Tensor, Tensor]:
        """Return which rows are of observed nodes, int64, and the positions of these nodes, int64."""
        given, ids = optional_ids(node_ids)
        _check_length(given, count)
        positions = self.training_ids.positions(ids, missing="mark")
        known = self.encodings.are_known(positions)
        return torch.from_numpy(np.flatnonzero(given))[known], positions[known]

    def _from_neighbors(self, neighbors: Any, weights: Any, count: int) -> Tensor:
        lengths, ids = neighbor_lists(neighbors, count)
        shares = None if weights is None else weight_lists(weights, lengths)
        positions = self.training_ids.positions(ids, what="neighbors", missing="mark")
        foreign = ids[(positions < 0).numpy()]
        if len(foreign):
            warn(
                f"{len(foreign)} of {len(ids)} neighbours are not in the training graph, such as "
                f"{foreign.tolist()[0]!r}: they are ignored.",
                DataWarning,
            )
        return self.encodings.unseen(count, torch.repeat_interleave(torch.arange(count), lengths), positions, shares)


def _check_length(ids: np.ndarray, count: int) -> None:
    if len(ids) != count:
        raise DataError(f"node_ids has {len(ids)} ids for {count} rows of features.")
