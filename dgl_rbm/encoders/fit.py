"""Fits the encoders of a run and puts their outputs side by side, standardised and weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgl_rbm.data.task import NodeTask, ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig
from dgl_rbm.encodings import Encodings
from dgl_rbm.sparse import Rows, norms
from dgl_rbm.training.context import RunContext

__all__ = ["WeighedEncoder", "encode_unseen", "fit_encodings"]


@dataclass(frozen=True)
class WeighedEncoder:
    """An encoder and how much its columns count beside the features."""

    encoder: Encoder
    standardize: bool = True
    weight: float = 1.0

    @classmethod
    def from_config(cls, config: EncoderConfig) -> WeighedEncoder:
        """Build the encoder that `config` describes."""
        return cls(config.build(), config.standardize, config.weight)


def fit_encodings(encoders: Sequence[WeighedEncoder], observed: ObservedGraph, context: RunContext) -> Encodings:
    """Encode the observed nodes with every encoder.

    Returns
    -------
    Encodings
        Columns in the order of the encoders. Nodes that an encoder gives all zeros, such as nodes without
        edges, are left out of the statistics and stay zero, as an unseen node without neighbours does.
    """
    length = _mean_length(observed.features)
    vectors, values, shifts, scales = [], [], [], []
    for part in encoders:
        output = part.encoder.fit(observed, context)
        present = output.encodings.abs().sum(dim=1, keepdim=True) > 0
        shift, scale = _scaling(output.encodings[present.squeeze(1)], part, length)
        vectors.append(output.vectors)
        values.append(torch.where(present, (output.encodings - shift) * scale, torch.zeros(())))
        shifts.append(shift)
        scales.append(scale)
    empty = torch.zeros(len(observed), 0)
    return Encodings(
        node_ids=observed.node_ids,
        vectors=torch.cat([empty, *vectors], dim=1),
        values=torch.cat([empty, *values], dim=1),
        shift=torch.cat([empty[0], *shifts]),
        scale=torch.cat([empty[0], *scales]),
    )


def _scaling(encodings: Tensor, part: WeighedEncoder, length: float) -> tuple[Tensor, Tensor]:
    """Return shift and scale of each column, float32 ``[P]``.

    Standardised encodings get `part.weight` times the mean length of the feature rows: beside row-normalised
    bags of words, which have a length of about 0.2, columns of variance 1 would drown the features.
    """
    columns = encodings.shape[1]
    if not part.standardize or len(encodings) < 2:
        return torch.zeros(columns), torch.full((columns,), part.weight)
    deviation = encodings.std(dim=0, unbiased=False)
    # A column that hardly varies would otherwise become noise of variance 1.
    varies = deviation > 1e-6 * encodings.abs().max()
    scale = torch.where(varies, 1 / deviation.clamp(min=1e-12), torch.zeros(()))
    return encodings.mean(dim=0), part.weight * length / max(1, int(varies.sum())) ** 0.5 * scale


def _mean_length(features: Rows) -> float:
    """Return the root mean square length of the rows; 1 where all are zero."""
    length = float(norms(features).square().mean().sqrt()) if len(features) else 0.0
    return length or 1.0


def encode_unseen(encodings: Encodings, task: NodeTask) -> Tensor:
    """Return the encodings of ``task.unseen_idx`` from their observed neighbours, float32 ``[U, P]``."""
    source, destination = task.graph.in_edges(task.unseen_idx)
    row = torch.full((task.graph.num_nodes(),), -1, dtype=torch.int64)
    row[task.unseen_idx] = torch.arange(len(task.unseen_idx))
    return encodings.unseen(len(task.unseen_idx), row[destination], source)
