"""Expert memories: one vector per expert, in the centre of the rows routed to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dgl_rbm.rows.sparse import Rows, norms, transpose_matmul

__all__ = ["ExpertMemory", "annealed_momentum", "resized"]


def resized(packed: Tensor, count: int) -> Tensor:
    """Return a copy of the first `count` rows; missing rows are copies of the first."""
    kept = packed[:count]
    return torch.cat([kept, kept[:1].expand(count - len(kept), *kept.shape[1:])])


def annealed_momentum(epoch: int, momentum: float, annealing: float, annealing_epochs: int) -> float:
    """Return λ(t) = min(λ0 + (1 − λ0)·Δ·t/T, 1) (RbM paper, eq. 14).

    The paper prints max(λ, 1), which would freeze the memory from the first step.

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
    """Memory Q of a layer's experts.

    Spherical memories, as published, start at length one and `update` keeps them there. A gradient step changes their
    length, so every reader normalises them. `vectors` is a parameter because the self-similarity loss (eq. 7) has a
    gradient for it; `update` moves it towards the routed rows.

    Parameters
    ----------
    num_experts, dim : int
        E, and the width D of the rows that are routed.
    spherical : bool
        Whether rows and memories are scaled to length one before averaging. If not, a memory is the centre of its
        unscaled rows.
    """

    def __init__(self, num_experts: int, dim: int, *, spherical: bool = True) -> None:
        super().__init__()
        self.spherical = spherical
        self.vectors = nn.Parameter(normalize(torch.randn(num_experts, dim)))

    @torch.no_grad()
    def reset(self, vectors: Tensor) -> None:
        """Set the memories to `vectors`, float32 ``[E, D]``; of any length but zero if spherical."""
        vectors = vectors.to(self.vectors)
        self.vectors.copy_(normalize(vectors) if self.spherical else vectors)

    def resize(self, num_experts: int) -> None:
        """Set the number of memories, in place: the first ones are kept, new ones are copies of the first."""
        self.vectors.data = resized(self.vectors.data, num_experts)
        self.vectors.grad = None

    @torch.no_grad()
    def gradient_step(self) -> None:
        """Take one gradient step of size 1, in place, and clear the gradient.

        Without `spherical`, memories have any length; each turns by the same angle as one of length one.
        """
        step = self.vectors.grad
        if step is not None:
            if not self.spherical:
                # The gradient of a cosine grows as the length shrinks: memories near the origin would jump far away.
                step = step * self.vectors.square().sum(dim=1, keepdim=True)
            self.vectors.sub_(step)
            self.vectors.grad = None

    @torch.no_grad()
    def update(self, x: Rows, gates: Tensor, momentum: float) -> None:
        """Move each memory towards the rows routed to its expert (RbM paper, eq. 4), in place.

        Q_e ← λ·Q_e + (1 − λ)·Σ_j softmax_j(gate_je)·h_j over the rows j with gate_je ≠ 0, rows and memory scaled
        to length one if spherical. The memory of an expert without rows does not change by a bit.

        Parameters
        ----------
        x : Tensor or SparseRows
            Routed rows, float32 ``[B, D]``.
        gates : Tensor
            float32 ``[B, E]``.
        momentum : float
            λ.
        """
        routed = gates != 0
        used = routed.any(dim=0)
        # The softmax of a column without rows is NaN; it is not used below.
        shares = gates.masked_fill(~routed, -torch.inf).softmax(dim=0)
        shares = shares.nan_to_num()
        if not self.spherical:
            moved = momentum * self.vectors + (1 - momentum) * transpose_matmul(x, shares).t()
            self.vectors.copy_(torch.where(used.unsqueeze(1), moved, self.vectors))
            return
        lengths = norms(x).clamp_min(torch.finfo(gates.dtype).tiny).unsqueeze(1)
        centres = transpose_matmul(x, shares / lengths).t()
        moved = normalize(momentum * normalize(self.vectors) + (1 - momentum) * centres)
        self.vectors.copy_(torch.where(used.unsqueeze(1), moved, self.vectors))
