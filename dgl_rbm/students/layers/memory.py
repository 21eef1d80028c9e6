"""Expert memories: one vector per expert, in the middle of the rows that the expert is for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dgl_rbm.sparse import Rows, norms, transpose_matmul

__all__ = ["ExpertMemory", "annealed_momentum"]


def annealed_momentum(epoch: int, momentum: float, annealing: float, annealing_epochs: int) -> float:
    """Return λ(t) = min(λ0 + (1 − λ0)·Δ·t/T, 1) (RbM paper, eq. 14).

    The paper prints max(λ, 1), which would freeze the memory from the first step on.

    Parameters
    ----------
    epoch : int
        t, counted from 0.
    momentum : float
        λ0, in [0, 1].
    annealing : float
        Δ, in [0, 1).
    annealing_epochs : int
        T.
    """
    return min(momentum + (1 - momentum) * annealing * epoch / annealing_epochs, 1.0)


class ExpertMemory(nn.Module):
    """The memory Q of a layer's experts.

    Only directions matter: the vectors start and are kept at length one, but whoever reads them
    normalises them, since a gradient step changes their length. `vectors` is a parameter because the
    self-similarity loss (eq. 7) has a gradient for it; `update` moves it towards its rows besides.

    Parameters
    ----------
    num_experts, dim : int
        E, and the width D of the rows that are routed.
    """

    def __init__(self, num_experts: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(normalize(torch.randn(num_experts, dim)))

    @torch.no_grad()
    def reset(self, vectors: Tensor) -> None:
        """Start from `vectors`, float32 ``[E, D]`` of any length but zero."""
        self.vectors.copy_(normalize(vectors.to(self.vectors)))

    @torch.no_grad()
    def descend(self) -> None:
        """Take one gradient step of size 1, in place, and forget the gradient."""
        if self.vectors.grad is not None:
            self.vectors.sub_(self.vectors.grad)
            self.vectors.grad = None

    @torch.no_grad()
    def update(self, x: Rows, gates: Tensor, momentum: float) -> None:
        """Move each memory towards the rows routed to its expert (RbM paper, eq. 4), in place.

        Q_e ← λ·Q_e + (1 − λ)·Σ_j softmax_j(gate_je)·h_j over the rows j with gate_je ≠ 0, rows and memory of
        length one. The memory of an expert without rows stays as it is, bit for bit.

        Parameters
        ----------
        x : Tensor or SparseRows
            The rows that were routed, float32 ``[B, D]``.
        gates : Tensor
            float32 ``[B, E]``.
        momentum : float
            λ.
        """
        routed = gates != 0
        used = routed.any(dim=0)
        # Columns of unused experts are softmaxed over nothing; they are not read below.
        shares = gates.masked_fill(~routed, -torch.inf).softmax(dim=0)
        lengths = norms(x).clamp_min(torch.finfo(gates.dtype).tiny).unsqueeze(1)
        centres = transpose_matmul(x, shares.nan_to_num() / lengths).t()
        moved = normalize(momentum * normalize(self.vectors) + (1 - momentum) * centres)
        self.vectors.copy_(torch.where(used.unsqueeze(1), moved, self.vectors))
