"""Routers: which experts a row goes to, and with which weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dgl_rbm.precision import in_float32
from dgl_rbm.rows.sparse import Rows, linear, matmul, norms
from dgl_rbm.students.layers.columns import columns_of
from dgl_rbm.students.layers.derived import Serving
from dgl_rbm.students.layers.memory import ExpertMemory

__all__ = [
    "LearnedRouter",
    "MemoryRouter",
    "Metric",
    "Routing",
    "TopKRouter",
    "choose_experts",
    "cosines_to",
    "directions_of",
    "nearness_to",
    "top_k_gates",
]


Metric = Literal["cosine", "euclidean"]

_LOG_CAP = math.log(100.0)


class Routing(NamedTuple):
    """Where a router sends each row.

    Attributes
    ----------
    cosines : Tensor
        Cosine between each row and each expert's embedding, or what `MemoryRouter` has in its place, float32
        ``[B, E]``.
    gates : Tensor
        Weight of each expert, float32 ``[B, E]``; each row sums to one and is zero outside its k experts.
    """

    cosines: Tensor
    gates: Tensor


def top_k_gates(scores: Tensor, k: int) -> Tensor:
    """Return the softmax over each row's `k` largest scores, zero elsewhere.

    Parameters
    ----------
    scores : Tensor
        float32 ``[B, E]``.
    k : int
        Experts per row; of equal scores the ones in front are kept.

    Returns
    -------
    Tensor
        float32 ``[B, E]``.
    """
    # A stable sort, since `topk` leaves the choice among equal scores open.
    kept = scores.detach().sort(dim=1, descending=True, stable=True).indices[:, :k]
    best = scores.gather(1, kept)
    # A softmax written out: torch's own takes six times as long on rows of a few values.
    shares = (best - best[:, :1].detach()).exp()
    return torch.zeros_like(scores).scatter(1, kept, shares / shares.sum(dim=1, keepdim=True))


def cosines_to(rows: Rows, directions: Tensor) -> Tensor:
    """Return the cosine of each row with each of the `directions`, ``[B, E]``; zero where either has no length.

    Parameters
    ----------
    rows : Tensor or StructuredRows
        float32 ``[B, D]``.
    directions : Tensor
        What `directions_of` returns, float32 ``[E, D]``.
    """
    # The few directions on the left: this way round the product of dense rows is three times faster.
    products = (directions @ rows.t()).t() if isinstance(rows, Tensor) else matmul(rows, directions.t())
    return products / _lengths(rows)


def nearness_to(rows: Rows, vectors: Tensor) -> Tensor:
    """Return minus the squared distance of each row from each of the `vectors`, in shares of the row's mean one.

    Scaling rows and vectors together changes nothing, so that gates stay as sharp as they are while hidden states
    grow. The mean passes no gradient: what pulls a row to one vector does not push it away from the others.

    Parameters
    ----------
    rows : Tensor or StructuredRows
        float32 ``[B, D]``.
    vectors : Tensor
        float32 ``[E, D]``.

    Returns
    -------
    Tensor
        float32 ``[B, E]``, in ``[-E, 0]``; zero where all vectors equal the row.
    """
    products = (vectors @ rows.t()).t() if isinstance(rows, Tensor) else matmul(rows, vectors.t())
    squares = rows.square().sum(dim=1) if isinstance(rows, Tensor) else norms(rows).square()
    distances = (squares.unsqueeze(1) + vectors.square().sum(dim=1) - 2 * products).clamp_min(0)
    mean = distances.detach().mean(dim=1, keepdim=True)
    # Not a small epsilon: dividing zeros by one would make their gradient explode.
    return -distances / torch.where(mean > 0, mean, 1.0)


def directions_of(vectors: Tensor) -> Tensor:
    """Return the vectors ``[E, D]``, each scaled to length one, or zeros where it has none."""
    return vectors / _lengths(vectors)


def _lengths(rows: Rows) -> Tensor:
    lengths = norms(rows).unsqueeze(1)
    if not torch.is_grad_enabled():
        # Zeros divided by anything are zeros.
        return lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    # Not a small epsilon: dividing a zero row by one would make its gradient explode.
    return torch.where(lengths > 0, lengths, 1.0)


def choose_experts(scores: list[float], k: int) -> list[tuple[int, float]]:
    """Return what `top_k_gates` does for one row, as pairs of expert and gate, the largest first."""
    kept = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:k]
    shares = [math.exp(scores[expert] - scores[kept[0]]) for expert in kept]
    total = sum(shares)
    return [(expert, share / total) for expert, share in zip(kept, shares, strict=True)]


class TopKRouter(Serving):
    """Base of the routers: a softmax over the k largest cosines.

    Parameters
    ----------
    top_k : int
        k, at most the number of experts.
    columns : slice, optional
        The columns that rows are routed by, where not all.
    """

    def __init__(self, top_k: int, columns: slice | None = None) -> None:
        super().__init__()
        self.top_k = top_k
        self.columns = columns

    def seen(self, x: Rows) -> Rows:
        """Return the columns of `x` that rows are routed by."""
        return columns_of(x, self.columns)

    def gates(self, scores: Tensor) -> Tensor:
        """Return the gates ``[B, E]`` of scores ``[B, E]``, as losses on the routing see them."""
        return top_k_gates(scores, self.top_k)

    def detached_gates(self, routing: Routing) -> Tensor:
        """Return the gates of a routing without gradient into its scores, as the mix of the experts sees them."""
        return routing.gates.detach()

    @abstractmethod
    def cosines(self, x: Rows) -> Tensor:
        """Return the cosine of each row with each expert's embedding, ``[B, E]``; `x` is what the router has `seen`."""

    def forward(self, x: Rows) -> Routing:
        """Route rows ``[B, D]``, in float32 under autocast too: near cosines are equal in bfloat16."""
        with in_float32(x.device):
            x = self.seen(x)
            cosines = self.cosines(x.float() if isinstance(x, Tensor) else x)
            return Routing(cosines, self.gates(cosines))

    def choose(self, x: Rows) -> list[tuple[int, float]]:
        """Return the experts of a single row ``[1, D]`` and their gates, in a few steps less than `forward`."""
        return choose_experts(self.cosines(self.seen(x))[0].tolist(), self.top_k)


class MemoryRouter(TopKRouter):
    """Routes by the cosine to memories in the input space, without gradient into them (RbM paper, eq. 3).

    Gates are the softmax of scores times a scale, which the paper has at 1. Where the scale is learned, the mix of
    the experts trains it and nothing else does: scores get no gradient from the mix, the scale none from losses on
    the routing, which are least where it is largest.

    Parameters
    ----------
    in_dim, num_experts, top_k : int
        D, E and k.
    metric : {"cosine", "euclidean"}
        Scores: cosines, or `nearness_to` memories of any length.
    gate_scale : float
        What scores are multiplied by, or where that starts.
    learned_scale : bool
        Whether it is learned, as the exponential of a parameter; it stays below 100.
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
        learned_scale: bool = False,
        columns: slice | None = None,
    ) -> None:
        super().__init__(top_k, columns)
        self.metric = metric
        self.gate_scale = gate_scale
        self.memory = ExpertMemory(num_experts, in_dim, directions=metric == "cosine")
        self.log_scale = nn.Parameter(torch.tensor(math.log(gate_scale))) if learned_scale else None

    def gates(self, scores: Tensor) -> Tensor:
        if self.log_scale is not None:
            scores = scores * self._scale().detach()
        elif self.gate_scale != 1:
            scores = scores * self.gate_scale
        return top_k_gates(scores, self.top_k)

    def detached_gates(self, routing: Routing) -> Tensor:
        if self.log_scale is None:
            return routing.gates.detach()
        return top_k_gates(routing.cosines.detach() * self._scale(), self.top_k)

    def choose(self, x: Rows) -> list[tuple[int, float]]:
        scale = self.gate_scale if self.log_scale is None else float(self._scale().detach())
        return choose_experts([scale * score for score in self.cosines(self.seen(x))[0].tolist()], self.top_k)

    @torch.no_grad()
    def cap(self) -> None:
        """Put a learned scale back to 100 where it exceeds it; beyond it has no gradient."""
        if self.log_scale is not None:
            self.log_scale.clamp_(max=_LOG_CAP)

    def _scale(self) -> Tensor:
        assert self.log_scale is not None, "the scale is learned"
        return self.log_scale.clamp(max=_LOG_CAP).exp()

    def cosines(self, x: Rows) -> Tensor:
        vectors = self.memory.vectors
        if self.metric == "euclidean":
            return nearness_to(x, vectors.detach())
        return cosines_to(x, self.derived.get([vectors], lambda: directions_of(vectors.detach())))


class LearnedRouter(TopKRouter):
    """Routes by the cosine of a learned projection to learned expert embeddings (RbM paper, eq. 2).

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

    def cosines(self, x: Rows) -> Tensor:
        return cosines_to(linear(x, self.projection.weight), directions_of(self.embeddings))
