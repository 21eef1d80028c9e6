"""Expert memories: one vector per expert, in the middle of the rows that the expert is for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dgl_rbm.rows.sparse import Rows, norms, transpose_matmul

__all__ = ["ExpertMemory", "annealed_momentum", "resized"]


def resized(packed: Tensor, count: int) -> Tensor:
    """Return a copy of the first `count` rows; where there are fewer, the first one stands for the others."""
    kept = packed[:count]
    return torch.cat([kept, kept[:1].expand(count - len(kept), *kept.shape[1:])])


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

    Where only `directions` matter, as published, the vectors start and are kept at length one, but whoever reads
    them normalises them, since a gradient step changes their length. `vectors` is a parameter because the
    self-similarity loss (eq. 7) has a gradient for it; `update` moves it towards its rows besides.

    Parameters
    ----------
    num_experts, dim : int
        E, and the width D of the rows that are routed.
    directions : bool
        Whether rows and memories are scaled to length one before they are averaged. Where not, a memory lies in the
        middle of its rows as they are.
    """

    def __init__(self, num_experts: int, dim: int, *, directions: bool = True) -> None:
        super().__init__()
        self.directions = directions
        self.vectors = nn.Parameter(normalize(torch.randn(num_experts, dim)))

    @torch.no_grad()
    def reset(self, vectors: Tensor) -> None:
        """Start from `vectors`, float32 ``[E, D]``; of any length but zero where only directions matter."""
        vectors = vectors.to(self.vectors)
        self.vectors.copy_(normalize(vectors) if self.directions else vectors)

    def resize(self, num_experts: int) -> None:
        """Have this many memories, in place: the first ones are kept, new ones are copies of the first."""
        self.vectors.data = resized(self.vectors.data, num_experts)
        self.vectors.grad = None

    @torch.no_grad()
    def descend(self) -> None:
        """Take one gradient step of size 1, in place, and forget the gradient.

        A memory of another length than one, which only one that is no direction has, turns by the angle that one of
        length one would.
        """
        step = self.vectors.grad
        if step is not None:
            if not self.directions:
                # A cosine's gradient grows as the length shrinks: memories of rows of zeros would be thrown far away.
                step = step * self.vectors.square().sum(dim=1, keepdim=True)
            self.vectors.sub_(step)
            self.vectors.grad = None

    @torch.no_grad()
    def update(self, x: Rows, gates: Tensor, momentum: float) -> None:
        """Move each memory towards the rows routed to its expert (RbM paper, eq. 4), in place.

        Q_e ← λ·Q_e + (1 − λ)·Σ_j softmax_j(gate_je)·h_j over the rows j with gate_je ≠ 0, rows and memory of
        length one where only directions matter. The memory of an expert without rows stays as it is, bit for bit.

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
        shares = shares.nan_to_num()
        if not self.directions:
            moved = momentum * self.vectors + (1 - momentum) * transpose_matmul(x, shares).t()
            self.vectors.copy_(torch.where(used.unsqueeze(1), moved, self.vectors))
            return
        lengths = norms(x).clamp_min(torch.finfo(gates.dtype).tiny).unsqueeze(1)
        centres = transpose_matmul(x, shares / lengths).t()
        moved = normalize(momentum * normalize(self.vectors) + (1 - momentum) * centres)
        self.vectors.copy_(torch.where(used.unsqueeze(1), moved, self.vectors))
