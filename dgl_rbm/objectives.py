"""Loss functions of hidden states, memories and gates, with their papers and equations: stateless, in torch.

"The paper" is the RbM paper, Transactions on Machine Learning Research 10/2024. B is the number of rows, C of classes,
E of experts. Losses on logits are in `dgl_rbm.tasks.multiclass`.
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


def commitment_loss(scores: Tensor, gates: Tensor) -> Tensor:
    r"""Return the negative gate-weighted cosine of rows with memories (paper, eq. 6).

    .. math::
        -\frac{1}{B} \sum_{i=1}^B \sum_{j=1}^E G(h_i)_j \cos(h_i, \mathrm{sg}[Q_j])

    It pulls hidden states towards the memories to which they are routed.

    Parameters
    ----------
    scores : Tensor
        Cosines of rows with memories, or other routing scores, without gradient for the memories, ``[B, E]``.
    gates : Tensor
        Gates, 0 for unused experts, ``[B, E]``.

    Returns
    -------
    Tensor
        Scalar, the mean over rows; 0 for no rows.
    """
    return -(gates * scores).sum() / max(1, len(scores))


def self_similarity_loss(memory: Tensor) -> Tensor:
    r"""Return the mean cosine between memories (paper, eq. 7).

    .. math::
        \frac{1}{E^2} \sum_{i=1}^E \sum_{j=1}^E \cos(Q_i, \mathrm{sg}[Q_j])

    It spreads the memories over the sphere. Only :math:`Q_i` gets a gradient; the paper stops the gradient of
    :math:`Q_j` for stability.

    Parameters
    ----------
    memory : Tensor
        :math:`Q`, ``[E, D]``; rows of any length.

    Returns
    -------
    Tensor
        Scalar in [-1, 1]; the mean includes the E terms with i = j.
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
        Gates, ``[B, E]``.

    Returns
    -------
    Tensor
        Scalar, with the population variance: 0 if all experts have the same load, E − 1 if one expert has it all.
    """
    load = gates.sum(dim=0)
    smallest = torch.finfo(load.dtype).tiny
    return load.var(unbiased=False) / load.mean().square().clamp(min=smallest)


def representational_similarity_loss(student: Tensor, teacher: Tensor, *, normalize: bool = False) -> Tensor:
    r"""Return the mean squared difference of the similarities between rows (NOSMOG, Tian et al., 2022).

    .. math::
        \frac{1}{B^2} \sum_{u=1}^B \sum_{v=1}^B \big(h_u \cdot h_v - h'_u \cdot h'_v\big)^2

    Student and teacher may have different numbers of columns.

    Parameters
    ----------
    student : Tensor
        :math:`h`, hidden states of the student, ``[B, H]``.
    teacher : Tensor
        :math:`h'`, hidden states of the teacher, ``[B, H']``; gets no gradient.
    normalize : bool
        Whether to scale rows to length one first, which compares cosines and bounds the loss by 4.

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
    r"""Perturb rows to increase a loss, each number by at most `radius` (Madry et al., 2018).

    .. math::
        \delta_{i+1} = \mathrm{clip}\big(\delta_i + \alpha \, \mathrm{sign} \nabla_\delta L(x + \delta_i),
        -\epsilon, \epsilon\big)

    The initial δ is drawn uniformly from the box by torch's generator.

    Parameters
    ----------
    loss : callable
        Returns a scalar of rows ``[B, F]``; parameters get no gradient.
    rows : Tensor
        x, float32 ``[B, F]``.
    radius : float
        :math:`\epsilon`.
    steps : int
        Number of gradient steps.
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
