"""Predictions without a graph: a student, its encodings, and what was done to the features, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student

__all__ = ["Predictor"]


@dataclass(frozen=True)
class Predictor:
    """From raw feature rows to classes.

    Attributes
    ----------
    student : Student
        Reads normalised features beside encodings.
    encodings : Encodings
        Of the observed nodes; empty where the run used no encoder.
    normalization : FeatureNormalization
        Applied to raw features first.
    """

    student: Student
    encodings: Encodings
    normalization: FeatureNormalization

    @property
    def num_features(self) -> int:
        """Columns of the raw features."""
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

        Parameters
        ----------
        features : array_like
            Raw features, shape ``[B, F]``.
        node_ids : array_like of int, optional
            Ids of observed nodes, shape ``[B]``: their stored encodings are used.
        neighbors : sequence of sequences of int, optional
            For unseen nodes, the ids of each one's observed neighbours; an empty list is a node without any.
        encodings : Tensor, optional
            Ready encodings, float32 ``[B, P]``.

        Raises
        ------
        DataError
            Where shapes do not match, or more than one source of encodings is given. With none of them, every
            row is taken for a node without known neighbours and its encoding is zero.
        """
        rows = as_rows(features)
        given = [name for name, value in _named(node_ids, neighbors, encodings).items() if value is not None]
        if len(given) > 1:
            raise DataError(f"Give one of node_ids, neighbors and encodings, not {' and '.join(given)}.")
        if rows.shape[1] != self.num_features:
            raise DataError(
                f"The features have {rows.shape[1]} columns; this run was trained on {self.num_features}.",
                hint=f"Encodings ({self.encodings.dim} columns) are added by themselves: "
                "give node_ids, neighbors or encodings.",
            )
        if node_ids is not None:
            encodings = self.encodings.known(torch.as_tensor(node_ids, dtype=torch.int64))
        elif neighbors is not None:
            encodings = self.encodings.from_neighbors(neighbors)
        elif encodings is None:
            encodings = torch.zeros(rows.shape[0], self.encodings.dim)
        if tuple(encodings.shape) != (rows.shape[0], self.encodings.dim):
            raise DataError(
                f"There are encodings of shape {tuple(encodings.shape)} for {rows.shape[0]} rows of features; "
                f"expected {(rows.shape[0], self.encodings.dim)}."
            )
        return hstack(self.normalization.apply(rows), encodings)

    def predict_proba(self, features: Any, **structure: Any) -> Tensor:
        """Return class probabilities, float32 ``[B, C]``; arguments as for `inputs`."""
        return self.student.predict_proba(self.inputs(features, **structure))

    def predict(self, features: Any, **structure: Any) -> Tensor:
        """Return the most probable classes, int64 ``[B]``; arguments as for `inputs`."""
        return self.predict_proba(features, **structure).argmax(dim=1)


def _named(node_ids: Any, neighbors: Any, encodings: Any) -> dict[str, Any]:
    return {"node_ids": node_ids, "neighbors": neighbors, "encodings": encodings}
