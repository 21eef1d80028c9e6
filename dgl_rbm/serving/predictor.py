"""Predictor: a student with its encodings and feature normalisation; needs no graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student
from dgl_rbm.tasks.multiclass import predictions

__all__ = ["Predictor"]


@dataclass(frozen=True)
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
    """

    student: Student
    encodings: Encodings
    normalization: FeatureNormalization
    ids: NodeIds | None = None
    classes: tuple[int | str, ...] = ()

    @property
    def num_features(self) -> int:
        """Number of columns of the raw features."""
        return self.student.in_dim - self.encodings.dim

    def inputs(
        self,
        features: Any,
        *,
        node_ids: Any | None = None,
        neighbors: Sequence[Sequence[int]] | None = None,
        encodings: Tensor | None = None,
    ) -> Rows:
        """Return student inputs, float32 ``[B, F + P]``.

        Without `node_ids`, `neighbors` and `encodings`, every row is treated as a node without known neighbours: its
        encoding is zero.

        Parameters
        ----------
        features : array_like
            Raw features, shape ``[B, F]``.
        node_ids : array_like of int or str, optional
            Own ids of observed nodes, shape ``[B]``; their stored encodings are used.
        neighbors : sequence of sequences of int or str, optional
            Own ids of the observed neighbours of each unseen node; an empty list for a node without any.
        encodings : Tensor, optional
            Precomputed encodings, float32 ``[B, P]``.

        Raises
        ------
        DataError
            If shapes do not match, or more than one of `node_ids`, `neighbors` and `encodings` is given.
        """
        rows = as_rows(features)
        given = [name for name, value in _named(node_ids, neighbors, encodings).items() if value is not None]
        if len(given) > 1:
            raise DataError(f"Pass one of node_ids, neighbors and encodings, not {' and '.join(given)}.")
        if rows.shape[1] != self.num_features:
            raise DataError(
                f"The features have {rows.shape[1]} columns; this run was trained on {self.num_features}.",
                hint=f"The {self.encodings.dim} columns of encodings are appended automatically: "
                "pass node_ids, neighbors or encodings.",
            )
        if node_ids is not None:
            encodings = self.encodings.known(self._positions(node_ids, "node_ids"))
        elif neighbors is not None:
            encodings = self._from_neighbors(neighbors)
        elif encodings is None:
            encodings = torch.zeros(rows.shape[0], self.encodings.dim)
        if tuple(encodings.shape) != (rows.shape[0], self.encodings.dim):
            raise DataError(
                f"The encodings of {rows.shape[0]} rows of features have shape {tuple(encodings.shape)}; "
                f"expected {(rows.shape[0], self.encodings.dim)}."
            )
        return hstack(self.normalization.apply(rows), encodings)

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

    def labels_of(self, numbers: Tensor) -> Tensor | np.ndarray:
        """Return the labels that class numbers, int64 ``[B]``, stand for; see `predict`."""
        if self.classes in ((), tuple(range(len(self.classes)))):
            return numbers
        if all(isinstance(name, int) for name in self.classes):
            return torch.tensor(self.classes, dtype=torch.int64)[numbers]
        names: np.ndarray = np.array([str(name) for name in self.classes], dtype=object)[numbers.numpy()]
        return names

    def _positions(self, ids: Any, what: str, *, missing: Literal["raise", "mark"] = "raise") -> Tensor:
        if self.ids is None:
            return torch.as_tensor(ids, dtype=torch.int64)
        return self.ids.positions(ids, what=what, missing=missing)

    def _from_neighbors(self, neighbors: Sequence[Sequence[Any]]) -> Tensor:
        lengths = torch.tensor([len(ids) for ids in neighbors], dtype=torch.int64)
        rows = torch.repeat_interleave(torch.arange(len(neighbors)), lengths)
        flat = [node for ids in neighbors for node in ids]
        return self.encodings.unseen(len(neighbors), rows, self._positions(flat, "neighbors", missing="mark"))


def _named(node_ids: Any, neighbors: Any, encodings: Any) -> dict[str, Any]:
    return {"node_ids": node_ids, "neighbors": neighbors, "encodings": encodings}
