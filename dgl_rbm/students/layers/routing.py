"""Routers: which experts a row goes to, and with which weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dgl_rbm.precision import in_float32
from dgl_rbm.sparse import Rows, linear, matmul, norms
from dgl_rbm.students.layers.derived import Serving
from dgl_rbm.students.layers.memory import ExpertMemory

__all__ = [
    "LearnedRouter",
    "MemoryRouter",
    "Routing",
    "TopKRouter",
    "choose_experts",
    "cosines_to",
    "directions_of",
    "top_k_gates",
]


class Routing(NamedTuple):
    """Where a router sends each row.

    Attributes
    ----------
    cosines : Tensor
        Cosine between each row and each expert's embedding, float32 ``[B, E]``.
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
    """

    def __init__(self, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k

    @abstractmethod
    def cosines(self, x: Rows) -> Tensor:
        """Return the cosine of each row with each expert's embedding, ``[B, E]``."""

    def forward(self, x: Rows) -> Routing:
        """Route rows ``[B, D]``, in float32 under autocast too: near cosines are equal in bfloat16."""
        with in_float32(x.device):
            cosines = self.cosines(x.float() if isinstance(x, Tensor) else x)
            return Routing(cosines, top_k_gates(cosines, self.top_k))

    def choose(self, x: Rows) -> list[tuple[int, float]]:
        """Return the experts of a single row ``[1, D]`` and their gates, in a few steps less than `forward`."""
        return choose_experts(self.cosines(x)[0].tolist(), self.top_k)


class MemoryRouter(TopKRouter):
    """Routes by the cosine to memories in the input space, without gradient into them (RbM paper, eq. 3).

    Parameters
    ----------
    in_dim, num_experts, top_k : int
        D, E and k.
    """

    def __init__(self, in_dim: int, num_experts: int, top_k: int) -> None:
        super().__init__(top_k)
        self.memory = ExpertMemory(num_experts, in_dim)

    def cosines(self, x: Rows) -> Tensor:
        vectors = self.memory.vectors
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
