"""Fitting of a run's encoders, and the concatenation of their standardised and weighted outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgl_rbm.data.neighbors import gather_in_neighbors
from dgl_rbm.data.structure import WEIGHT
from dgl_rbm.data.task import NodeTask, ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig
from dgl_rbm.rows.sparse import Rows, norms
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.teachers.base import Teacher, TeacherOutput

__all__ = ["WeightedEncoder", "encode_nodes", "fit_encodings"]

_NODES_AT_ONCE = 4096
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class WeightedEncoder:
    """Encoder with the weight of its columns relative to the features."""

    encoder: Encoder
    standardize: bool = True
    weight: float = 1.0

    @classmethod
    def from_config(cls, config: EncoderConfig) -> WeightedEncoder:
        """Build the encoder that `config` describes."""
        return cls(config.build(), config.standardize, config.weight)

    def bind_teacher(self, teacher: Teacher, output: TeacherOutput) -> WeightedEncoder:
        """Return this encoder bound to a fitted teacher; see `Encoder.bind_teacher`."""
        return replace(self, encoder=self.encoder.bind_teacher(teacher, output))


def fit_encodings(encoders: Sequence[WeightedEncoder], observed: ObservedGraph, context: RunContext) -> Encodings:
    """Encode the observed nodes with every encoder.

    Returns
    -------
    Encodings
        Columns in the order of the encoders. Rows that are all zero, such as those of nodes without edges, are excluded
        from the statistics and stay zero, as the encoding of an unseen node without neighbours does.
    """
    length = _mean_length(observed.features)
    vectors, values, shifts, scales = [], [], [], []
    for part in encoders:
        output = part.encoder.fit(observed, context)
        scaled, shift, scale = _scaled(output.encodings, part, length)
        vectors.append(output.vectors)
        values.append(scaled)
        shifts.append(shift)
        scales.append(scale)
    return Encodings(
        node_ids=observed.node_ids,
        vectors=_beside(vectors, len(observed)),
        values=_beside(values, len(observed)),
        shift=torch.cat([torch.zeros(0), *shifts]),
        scale=torch.cat([torch.zeros(0), *scales]),
    )


def _beside(parts: list[Tensor], rows: int) -> Tensor:
    """Return the concatenated columns; a single part is returned uncopied, since it may be large."""
    return parts[0] if len(parts) == 1 else torch.cat([torch.zeros(rows, 0), *parts], dim=1)


def _scaled(encodings: Tensor, part: WeightedEncoder, length: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scaled encodings ``[N, P]``, and the shift and scale of each column, ``[P]``."""
    present = torch.cat([(rows != 0).any(dim=1) for rows in encodings.split(_ROWS_AT_ONCE)])
    shift, scale = _scaling(encodings, present, part, length)
    values = torch.empty_like(encodings)
    pieces = (whole.split(_ROWS_AT_ONCE) for whole in (values, encodings, present))
    for into, rows, kept in zip(*pieces, strict=True):
        torch.where(kept[:, None], (rows - shift) * scale, torch.zeros(()), out=into)
    return values, shift, scale


def _scaling(encodings: Tensor, present: Tensor, part: WeightedEncoder, length: float) -> tuple[Tensor, Tensor]:
    """Return shift and scale of each column, float32 ``[P]``, from the rows that are `present`.

    The mean length of standardised encodings is `part.weight` times that of the feature rows: row-normalised bags of
    words have a length of about 0.2, and columns of variance 1 would dominate them.
    """
    columns = encodings.shape[1]
    count = int(present.sum())
    if not part.standardize or count < 2:
        return torch.zeros(columns), torch.full((columns,), part.weight)
    # In chunks and in double precision; absent rows are zero and do not change the sum.
    pieces = list(zip(encodings.split(_ROWS_AT_ONCE), present.split(_ROWS_AT_ONCE), strict=True))
    mean = sum((rows.sum(dim=0, dtype=torch.float64) for rows, _ in pieces), torch.zeros(())) / count
    squares = sum(((rows[kept] - mean).square().sum(dim=0) for rows, kept in pieces), torch.zeros(()))
    largest = max(float(rows.abs().max()) for rows, _ in pieces)
    deviation = (squares / count).sqrt().float()
    # A nearly constant column would otherwise become noise of variance 1.
    varies = deviation > 1e-6 * largest
    scale = torch.where(varies, 1 / deviation.clamp(min=1e-12), torch.zeros(()))
    return mean.float(), part.weight * length / max(1, int(varies.sum())) ** 0.5 * scale


def _mean_length(features: Rows) -> float:
    """Return the root mean square length of the rows; 1 if all are zero."""
    length = float(norms(features).square().mean().sqrt()) if len(features) else 0.0
    return length or 1.0


def encode_nodes(encodings: Encodings, task: NodeTask, node_ids: Tensor) -> Tensor:
    """Return the encodings of any nodes of the task from their observed neighbours.

    Parameters
    ----------
    encodings : Encodings
    task : NodeTask
    node_ids : Tensor
        int64 ``[B]``, any order.

    Returns
    -------
    Tensor
        float32 ``[B, P]``.
    """
    if not encodings.dim:
        return torch.empty(len(node_ids), 0)
    pointers, sources, _ = task.graph.adj_tensors("csc")
    weights = task.graph.edata.get(WEIGHT)
    parts = [torch.empty(0, encodings.dim)]
    # One vector per edge is gathered; small batches bound the memory even if they contain hubs.
    for ids in node_ids.split(_NODES_AT_ONCE):
        parts.append(encodings.unseen(len(ids), *gather_in_neighbors(pointers, sources, ids, weights)))
    return torch.cat(parts)
