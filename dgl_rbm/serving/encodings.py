"""Structural encodings for prediction: stored vectors and the encoding of unseen nodes from their neighbours.

Plain tensors; needs no graph library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from dgl_rbm.errors import DataError
from dgl_rbm.rows.checked import id_array, neighbor_lists

__all__ = ["Encodings"]


@dataclass(frozen=True)
class Encodings:
    """Encodings of the observed nodes, and the vectors that encode unseen ones.

    Attributes
    ----------
    node_ids : Tensor
        Ids of the observed nodes in the graph that the task was made from, int64 ``[N]``, ascending.
    vectors : Tensor
        float32 ``[N, P]``; an unseen node's encoding is computed from those of its observed neighbours.
    values : Tensor
        The observed nodes' own encodings, on which the student was trained, float32 ``[N, P]``.
    shift, scale : Tensor
        float32 ``[P]``; an unseen node's encoding is ``(mean of neighbours' vectors - shift) * scale``, with the mean
        by edge weight.
    """

    node_ids: Tensor
    vectors: Tensor
    values: Tensor
    shift: Tensor
    scale: Tensor

    @property
    def dim(self) -> int:
        """P; 0 without encodings."""
        return self.vectors.shape[1]

    def are_known(self, ids: Any) -> Tensor:
        """Return whether nodes, int64 ``[B]``, were observed in training, bool ``[B]``."""
        return self._find(_as_positions(ids))[1]

    def known(self, ids: Any) -> Tensor:
        """Return the encodings of observed nodes.

        Parameters
        ----------
        ids : array-like
            Positions of nodes in the graph that the task was made from, int64 ``[B]``.

        Returns
        -------
        Tensor
            float32 ``[B, P]``.

        Raises
        ------
        DataError
            If an id is not that of an observed node.
        """
        ids = _as_positions(ids)
        position, found = self._find(ids)
        if not bool(found.all()):
            missing = ids[~found][:5].tolist()
            raise DataError(
                f"{int((~found).sum())} node ids were not observed in training, such as {missing}.",
                hint="Encode them from their neighbours instead.",
            )
        return self.values[position]

    def unseen(self, count: int, rows: Tensor, neighbor_ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the encodings of unseen nodes, computed from their observed neighbours.

        Parameters
        ----------
        count : int
            Number of nodes to encode, B.
        rows : Tensor
            For each neighbour, the index in ``[0, B)`` of the node to encode; int64 ``[M]``.
        neighbor_ids : Tensor
            The neighbours' node ids, int64 ``[M]``; unobserved ones are ignored.
        weights : Tensor, optional
            Weights of the neighbours in the mean, float32 ``[M]``, from 0 on; equal by default.

        Returns
        -------
        Tensor
            float32 ``[B, P]``; zeros for a node without observed neighbours, or with neighbours of weight 0 alone.
        """
        position, found = self._find(neighbor_ids)
        if weights is not None:
            found &= weights > 0
        if not bool(found.all()):
            rows, position = rows[found], position[found]
            weights = None if weights is None else weights[found]
        if not len(rows):
            return torch.zeros(count, self.dim, dtype=torch.float32)
        if bool((rows.diff() < 0).any()):
            order = rows.argsort(stable=True)
            rows, position = rows[order], position[order]
            weights = None if weights is None else weights[order]
        degree = torch.bincount(rows, minlength=count)
        # Averages without gathering the vectors first; empty bags are zeros.
        starts = degree.cumsum(0) - degree
        if weights is None:
            mean = embedding_bag(position, self.vectors, starts, mode="mean")
        else:
            shares = (weights / torch.bincount(rows, weights.double(), minlength=count)[rows]).to(self.vectors)
            mean = embedding_bag(position, self.vectors, starts, mode="sum", per_sample_weights=shares)
        encoded = (mean - self.shift) * self.scale
        return encoded.masked_fill_((degree == 0).unsqueeze(1), 0.0)

    def from_neighbors(self, neighbors: Sequence[Sequence[int]]) -> Tensor:
        """Return the encodings of unseen nodes from one list of neighbour ids per node, float32 ``[B, P]``."""
        lengths, flat = neighbor_lists(neighbors)
        rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        return self.unseen(len(lengths), rows, _as_positions(flat, "neighbors"))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Encodings:
        """Restore encodings from their `state_dict`."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})

    @cached_property
    def _all_observed(self) -> bool:
        """Whether the observed nodes are 0 to N − 1, as in the transductive setting; an id is then its own position."""
        return len(self.node_ids) > 0 and int(self.node_ids[-1]) == len(self.node_ids) - 1

    def _find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.node_ids)
        if self._all_observed:
            return ids.clamp(0, count - 1), (ids >= 0) & (ids < count)
        if not count:
            return torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        position = torch.searchsorted(self.node_ids, ids).clamp(max=count - 1)
        return position, self.node_ids[position] == ids


def _as_positions(ids: Any, what: str = "node_ids") -> Tensor:
    if isinstance(ids, Tensor) and ids.dtype == torch.int64 and ids.dim() == 1 and ids.layout == torch.strided:
        return ids
    given = id_array(ids, what)
    if given.dtype == object:
        raise DataError(f"{what} contains {given[0]!r}; expected positions of nodes in the training graph.")
    return torch.from_numpy(given)
