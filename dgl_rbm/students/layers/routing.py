"""Routers: the experts of each row and their gates."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dgl_rbm.precision import in_float32
from dgl_rbm.rows.sparse import Rows, StructuredRows, linear, matmul, norms
from dgl_rbm.students.layers.cache import CachingModule
from dgl_rbm.students.layers.columns import select_columns
from dgl_rbm.students.layers.memory import ExpertMemory

__all__ = [
    "LearnedRouter",
    "MemoryRouter",
    "Metric",
    "Routing",
    "TopKRouter",
    "cosine_similarities",
    "negative_scaled_sq_distance",
    "read_entries",
    "single_row_gates",
    "top_k_gates",
    "unit_vectors",
]


Metric = Literal["cosine", "euclidean"]

_LOG_CAP = math.log(100.0)


class Routing(NamedTuple):
    """Routing of rows by a layer.

    Attributes
    ----------
    scores : Tensor
        Scores of each row and each expert, float32 ``[B, E]``: cosines, or the `negative_scaled_sq_distance` of a
        `MemoryRouter` with the euclidean metric.
    gates : Tensor
        Weight of each expert, float32 ``[B, E]``; each row sums to one and is zero outside its k experts.
    """

    scores: Tensor
    gates: Tensor


def top_k_gates(scores: Tensor, k: int) -> Tensor:
    """Return the softmax over each row's `k` largest scores, zero elsewhere.

    Parameters
    ----------
    scores : Tensor
        float32 ``[B, E]``.
    k : int
        Experts per row; ties go to the first ones.

    Returns
    -------
    Tensor
        float32 ``[B, E]``.
    """
    # A stable sort: `topk` has no defined tie-breaking.
    kept = scores.detach().sort(dim=1, descending=True, stable=True).indices[:, :k]
    best = scores.gather(1, kept)
    # A softmax written out: torch's own takes six times as long on rows of a few values.
    shares = (best - best[:, :1].detach()).exp()
    return torch.zeros_like(scores).scatter(1, kept, shares / shares.sum(dim=1, keepdim=True))


def single_row_gates(scores: list[float], k: int) -> list[tuple[int, float]]:
    """Return `top_k_gates` of one row as pairs of expert and gate, in descending order."""
    kept = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:k]
    shares = [math.exp(scores[expert] - scores[kept[0]]) for expert in kept]
    total = sum(shares)
    return [(expert, share / total) for expert, share in zip(kept, shares, strict=True)]


def cosine_similarities(rows: Rows, units: Tensor) -> Tensor:
    """Return the cosine of each row with each unit vector, ``[B, E]``; zero if either is zero.

    Parameters
    ----------
    rows : Tensor or StructuredRows
        float32 ``[B, D]``.
    units : Tensor
        As returned by `unit_vectors`, float32 ``[E, D]``.
    """
    # The few vectors on the left: in this order the product of dense rows is three times as fast.
    products = (units @ rows.t()).t() if isinstance(rows, Tensor) else matmul(rows, units.t())
    return products / _nonzero_norms(rows)


def negative_scaled_sq_distance(rows: Rows, vectors: Tensor) -> Tensor:
    """Return the negative squared distance of each row to each vector, divided by the row's mean squared distance.

    The scores do not change if rows and vectors are scaled together, so gates keep their sharpness while hidden states
    grow. The mean passes no gradient: pulling a row to one vector does not push it away from the others.

    Parameters
    ----------
    rows : Tensor or StructuredRows
        float32 ``[B, D]``.
    vectors : Tensor
        float32 ``[E, D]``.

    Returns
    -------
    Tensor
        float32 ``[B, E]``, in ``[-E, 0]``; zero if all vectors equal the row.
    """
    products = (vectors @ rows.t()).t() if isinstance(rows, Tensor) else matmul(rows, vectors.t())
    squares = rows.square().sum(dim=1) if isinstance(rows, Tensor) else norms(rows).square()
    distances = (squares.unsqueeze(1) + vectors.square().sum(dim=1) - 2 * products).clamp_min(0)
    mean = distances.detach().mean(dim=1, keepdim=True)
    # No small epsilon: zeros divided by one would have exploding gradients.
    return -distances / torch.where(mean > 0, mean, 1.0)


def unit_vectors(vectors: Tensor) -> Tensor:
    """Return the vectors ``[E, D]`` scaled to length one; zeros stay zeros."""
    return vectors / _nonzero_norms(vectors)


def _nonzero_norms(rows: Rows) -> Tensor:
    """Return the norms ``[B, 1]``, with divisors that keep zeros in place of norms of zero."""
    lengths = norms(rows).unsqueeze(1)
    if not torch.is_grad_enabled():
        # Without gradients any divisor of zeros will do.
        return lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    # No small epsilon: a zero row divided by one would have exploding gradients.
    return torch.where(lengths > 0, lengths, 1.0)


def read_entries(column_shares: Tensor, columns: slice | None) -> float:
    """Return the mean number of entries of a row that are multiplied if only `columns` are read, None for all."""
    return float(column_shares[slice(None) if columns is None else columns].sum())


class TopKRouter(CachingModule):
    """Base of the routers: gates are a softmax over the k largest scores.

    Parameters
    ----------
    top_k : int
        k, at most the number of experts.
    spherical : bool
        Whether scores depend on the directions of rows alone.
    columns : slice, optional
        Columns that the router reads; all by default.
    """

    def __init__(self, top_k: int, *, spherical: bool = True, columns: slice | None = None) -> None:
        super().__init__()
        self.top_k = top_k
        self.spherical = spherical
        self.columns = columns

    def select_columns(self, x: Rows) -> Rows:
        """Return the columns of `x` that the router reads, ``[B, D]``."""
        return select_columns(x, self.columns)

    def embed(self, x: Rows) -> Tensor:
        """Return selected columns ``[B, D]`` in the space of the experts' embeddings, dense."""
        return x.to_dense() if isinstance(x, StructuredRows) else x

    @abstractmethod
    def scores(self, x: Rows) -> Tensor:
        """Return the score of each row and each expert, ``[B, E]``, from the selected columns ``[B, D]``."""

    def gates(self, scores: Tensor, k: int | None = None) -> Tensor:
        """Return the gates ``[B, E]`` of scores ``[B, E]``, over `k` experts, as the penalties on the routing use them.

        `k` is `top_k` by default.
        """
        return top_k_gates(scores, k or self.top_k)

    def detached_gates(self, routing: Routing, k: int | None = None) -> Tensor:
        """Return the gates of a routing as the mix of the experts uses them, without gradient to the scores."""
        return routing.gates.detach() if k is None else self.gates(routing.scores.detach(), k)

    def forward(self, x: Rows) -> Routing:
        """Route rows ``[B, F]``, in float32 also under autocast: bfloat16 turns near scores into ties."""
        with in_float32(x.device):
            x = self.select_columns(x)
            scores = self.scores(x.float() if isinstance(x, Tensor) else x)
            return Routing(scores, self.gates(scores))

    def route_one(self, x: Rows) -> list[tuple[int, float]]:
        """Return the experts of a single row ``[1, F]`` and their gates; faster than `forward`."""
        return single_row_gates(self.scores(self.select_columns(x))[0].tolist(), self.top_k)

    @abstractmethod
    def multiply_adds(self, column_shares: Tensor) -> float:
        """Return the multiply-adds of the scores of one row; see `Student.multiply_adds`."""


class MemoryRouter(TopKRouter):
    """Routes by the similarity of rows to memories in the input space, without gradient to them (RbM paper, eq. 3).

    Gates are the softmax of scores times a scale, which is 1 in the paper. A learned scale is trained by the mix of the
    experts alone: scores get no gradient from the mix, and the scale none from the losses on the routing, which
    decrease in it without bound.

    Parameters
    ----------
    in_dim, num_experts, top_k : int
        D, E and k.
    metric : {"cosine", "euclidean"}
        Scores: cosines, or `negative_scaled_sq_distance` to memories of any length.
    gate_scale : float
        Factor of the scores, or its initial value.
    learn_gate_scale : bool
        Whether the factor is learned, as the exponential of a parameter; it stays below 100.
    columns : slice, optional
        As for `TopKRouter`; D counts these alone.
    """

    def __init__(
        self,
        in_dim: int,
        num_experts: int,
        top_k: int,
        *,
        metric: Metric = "cosine",
        gate_scale: float = 1.0,
        learn_gate_scale: bool = False,
        columns: slice | None = None,
    ) -> None:
        super().__init__(top_k, spherical=metric == "cosine", columns=columns)
        self.metric = metric
        self.gate_scale = gate_scale
        self.memory = ExpertMemory(num_experts, in_dim, spherical=self.spherical)
        self.log_scale = nn.Parameter(torch.tensor(math.log(gate_scale))) if learn_gate_scale else None

    def scores(self, x: Rows) -> Tensor:
        vectors = self.memory.vectors
        if self.metric == "euclidean":
            return negative_scaled_sq_distance(x, vectors.detach())
        return cosine_similarities(x, self.cache.get([vectors], lambda: unit_vectors(vectors.detach())))

    def gates(self, scores: Tensor, k: int | None = None) -> Tensor:
        if self.log_scale is not None:
            scores = scores * self._scale().detach()
        elif self.gate_scale != 1:
            scores = scores * self.gate_scale
        return super().gates(scores, k)

    def detached_gates(self, routing: Routing, k: int | None = None) -> Tensor:
        if self.log_scale is None:
            return super().detached_gates(routing, k)
        return top_k_gates(routing.scores.detach() * self._scale(), k or self.top_k)

    def route_one(self, x: Rows) -> list[tuple[int, float]]:
        scale = self.gate_scale if self.log_scale is None else float(self._scale().detach())
        scores = self.scores(self.select_columns(x))[0].tolist()
        return single_row_gates([scale * score for score in scores], self.top_k)

    def multiply_adds(self, column_shares: Tensor) -> float:
        return read_entries(column_shares, self.columns) * len(self.memory.vectors)

    @torch.no_grad()
    def cap(self) -> None:
        """Clamp a learned scale to at most 100; above it has no gradient."""
        if self.log_scale is not None:
            self.log_scale.clamp_(max=_LOG_CAP)

    def _scale(self) -> Tensor:
        assert self.log_scale is not None, "the scale is learned"
        return self.log_scale.clamp(max=_LOG_CAP).exp()


class LearnedRouter(TopKRouter):
    """Routes by the cosine of a learned projection with learned expert embeddings (RbM paper, eq. 2).

    Parameters
    ----------
    in_dim, num_experts, top_k : int
        D, E and k.
    embedding_dim : int
        Dimensions of the space that rows are projected to.
    """

    def __init__(self, in_dim: int, num_experts: int, top_k: int, embedding_dim: int) -> None:
        super().__init__(top_k)
        self.projection = nn.Linear(in_dim, embedding_dim, bias=False)
        self.embeddings = nn.Parameter(torch.randn(num_experts, embedding_dim))

    def embed(self, x: Rows) -> Tensor:
        return linear(x, self.projection.weight)

    def scores(self, x: Rows) -> Tensor:
        return cosine_similarities(self.embed(x), unit_vectors(self.embeddings))

    def multiply_adds(self, column_shares: Tensor) -> float:
        return read_entries(column_shares, self.columns) * self.projection.out_features + self.embeddings.numel()
