"""Loss functions: pure torch, no state, each naming its paper and equation.

"The paper" is the RbM paper, Transactions on Machine Learning Research 10/2024; its equation numbers are
used. B is the number of rows, C of classes, E of experts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "commitment_loss",
    "load_balance_loss",
    "perturbed_by_gradient",
    "representational_similarity_loss",
    "self_similarity_loss",
]


def commitment_loss(cosines: Tensor, gates: Tensor) -> Tensor:
    r"""Return minus the gate-weighted cosine of rows with memories (paper, eq. 6).

    .. math::
        -\frac{1}{B} \sum_{i=1}^B \sum_{j=1}^E G(h_i)_j \cos(h_i, \mathrm{sg}[Q_j])

    It pulls hidden representations towards the memories they are routed to.

    Parameters
    ----------
    cosines : Tensor
        Cosines of rows with memories, computed without gradient into the memories, ``[B, E]``.
    gates : Tensor
        Routing weights, zero for experts that are not used, ``[B, E]``.

    Returns
    -------
    Tensor
        Scalar, the mean over rows; 0 for no rows.
    """
    return -(gates * cosines).sum() / max(1, len(cosines))


def self_similarity_loss(memory: Tensor) -> Tensor:
    r"""Return the mean cosine between memories (paper, eq. 7).

    .. math::
        \frac{1}{E^2} \sum_{i=1}^E \sum_{j=1}^E \cos(Q_i, \mathrm{sg}[Q_j])

    It spreads the memories over the sphere. Only :math:`Q_i` gets a gradient; the paper stops the other one
    to prevent instability.

    Parameters
    ----------
    memory : Tensor
        :math:`Q`, ``[E, D]``; of any length per row.

    Returns
    -------
    Tensor
        Scalar in [-1, 1]; the E terms with i = j are part of the mean.
    """
    directions = functional.normalize(memory, dim=1)
    return (directions @ directions.detach().t()).mean()


def load_balance_loss(gates: Tensor) -> Tensor:
    r"""Return the squared coefficient of variation of the experts' load (paper, eq. 8; Shazeer et al., 2017).

    .. math::
        \mathrm{Var}(L) / \mathrm{Mean}(L)^2, \quad L = \sum_{i=1}^B G(h_i) \in \mathbb{R}^E

    Parameters
    ----------
    gates : Tensor
        Routing weights, ``[B, E]``.

    Returns
    -------
    Tensor
        Scalar, with the population variance: 0 where all experts carry the same load, E − 1 where one
        carries everything.
    """
    load = gates.sum(dim=0)
    smallest = torch.finfo(load.dtype).tiny
    return load.var(unbiased=False) / load.mean().square().clamp(min=smallest)


def representational_similarity_loss(student: Tensor, teacher: Tensor, *, normalize: bool = False) -> Tensor:
    r"""Return the squared difference of the similarities between rows (NOSMOG, Tian et al., 2022).

    .. math::
        \frac{1}{B^2} \sum_{u=1}^B \sum_{v=1}^B \big(h_u \cdot h_v - h'_u \cdot h'_v\big)^2

    The two kinds of states need not have the same number of columns.

    Parameters
    ----------
    student : Tensor
        :math:`h`, hidden states of the student, ``[B, H]``.
    teacher : Tensor
        :math:`h'`, hidden states of the teacher, ``[B, H']``; gets no gradient.
    normalize : bool
        Whether rows are scaled to length one first, so that cosines are compared and the loss lies in [0, 4].

    Returns
    -------
    Tensor
        Scalar; 0 for no rows.
    """
    if not len(student):
        return student.sum()
    teacher = teacher.detach()
    if normalize:
        student, teacher = functional.normalize(student, dim=1), functional.normalize(teacher, dim=1)
    return functional.mse_loss(student @ student.t(), teacher @ teacher.t())


def perturbed_by_gradient(
    loss: Callable[[Tensor], Tensor], rows: Tensor, *, radius: float, steps: int, step_size: float
) -> Tensor:
    r"""Return rows moved to where a loss is larger, each number by at most `radius` (Madry et al., 2018).

    .. math::
        \delta_{i+1} = \mathrm{clip}\big(\delta_i + \alpha \, \mathrm{sign} \nabla_\delta L(x + \delta_i),
        -\epsilon, \epsilon\big)

    The start is drawn uniformly from the box by torch's generator.

    Parameters
    ----------
    loss : callable
        Returns a scalar of rows ``[B, F]``; it is differentiated by the rows alone, parameters get no gradient.
    rows : Tensor
        x, float32 ``[B, F]``.
    radius : float
        :math:`\epsilon`.
    steps : int
        Gradient steps.
    step_size : float
        :math:`\alpha`.

    Returns
    -------
    Tensor
        float32 ``[B, F]``, without gradient.
    """
    # On the CPU, so that the same seed gives the same start on any device.
    delta = (2 * torch.rand(rows.shape, device="cpu") - 1).mul_(radius).to(rows)
    for _ in range(steps):
        delta.requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(rows + delta), delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp_(-radius, radius)
    return rows + delta
