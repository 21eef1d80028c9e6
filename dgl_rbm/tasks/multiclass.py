"""Multi-class classification: the meaning of logits as losses, probabilities, predictions and scores.

B is the number of rows, C of classes. "The paper" is the RbM paper, Transactions on Machine Learning Research 10/2024.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dgl_rbm.errors import DataError

__all__ = [
    "ClassWeight",
    "SelectBy",
    "accuracy",
    "balanced_accuracy",
    "class_weights",
    "distillation_loss",
    "hard_label_loss",
    "macro_f1",
    "predictions",
    "probabilities",
    "recalls",
    "selection_score",
    "soft_cross_entropy",
    "validation_accuracy",
    "validation_loss",
    "validation_score",
]

SelectBy = Literal["accuracy", "balanced_accuracy", "macro_f1", "loss", "both"]
ClassWeight = Literal["balanced"]

_ACCURACY_PER_NAT = 0.3


def hard_label_loss(log_probs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the cross-entropy with known labels, :math:`-\sum_v \log \hat y_{v, y_v}` (paper, eq. 9, CE).

    Parameters
    ----------
    log_probs : Tensor
        The student's log-probabilities, ``[B, C]``.
    labels : Tensor
        Classes in ``[0, C)``, int64 ``[B]``.
    weights : Tensor, optional
        Weight of each class, ``[C]``; see `class_weights`.

    Returns
    -------
    Tensor
        Scalar, summed over rows: equation 9 divides by the number of *all* labelled nodes, which a batch
        does not know. 0 for no rows.
    """
    return functional.nll_loss(log_probs, labels, weight=weights, reduction="sum")


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    r"""Return weights under which all classes count equally, :math:`n / (K n_c)` (King and Zeng, 2001).

    Parameters
    ----------
    labels : Tensor
        Classes of the n training rows, int64 ``[n]``; K different ones.
    num_classes : int
        C.

    Returns
    -------
    Tensor
        float32 ``[C]``, of mean 1 over the rows; 0 for a class without a row.
    """
    sizes = torch.bincount(labels, minlength=num_classes).double()
    present = sizes > 0
    weights = len(labels) / (present.sum() * sizes.clamp(min=1))
    return torch.where(present, weights, 0.0).float()


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Return the divergence of the student from the teacher (paper, eq. 9, KL).

    .. math::
        \mathrm{KL}(y'_v \,\|\, \hat y_v) = \sum_c y'_{vc} (\log y'_{vc} - \log \hat y_{vc}), \quad
        y'_v = \mathrm{softmax}(z'_v / \tau), \; \hat y_v = \mathrm{softmax}(z_v / \tau)

    The temperature is inside both softmaxes. Published code divides log-probabilities by it, which leaves
    no distribution for any temperature but 1.

    Parameters
    ----------
    student_logits : Tensor
        :math:`z`, ``[B, C]``.
    teacher_logits : Tensor
        :math:`z'`, ``[B, C]``; gets no gradient.
    temperature : float
        :math:`\tau > 0`.

    Returns
    -------
    Tensor
        One value per row, ``[B]``.
    """
    log_student = torch.log_softmax(student_logits / temperature, dim=1)
    teacher = torch.softmax(teacher_logits.detach() / temperature, dim=1)
    return functional.kl_div(log_student, teacher, reduction="none").sum(dim=1)


def soft_cross_entropy(log_probs: Tensor, targets: Tensor) -> Tensor:
    r"""Return the cross-entropy with soft targets, :math:`-\sum_v t_v \cdot \log \hat y_v` (paper, eq. 12).

    This is the part of the KRD loss that depends on the student; the entropies of the targets are constant.

    Parameters
    ----------
    log_probs : Tensor
        The student's log-probabilities, ``[B, C]``.
    targets : Tensor
        Non-negative, ``[B, C]``; a row of zeros adds nothing.

    Returns
    -------
    Tensor
        Scalar, summed over rows.
    """
    return -(targets * log_probs).sum()


def probabilities(logits: Tensor) -> Tensor:
    """Return class probabilities ``[B, C]`` of logits ``[B, C]``."""
    return torch.softmax(logits, dim=1)


def predictions(scores: Tensor) -> Tensor:
    """Return the class with the largest logit or probability of each row ``[B, C]``, int64 ``[B]``."""
    return scores.argmax(dim=1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the share of correct predictions, in ``[0, 1]``.

    Parameters
    ----------
    predicted, labels : Tensor
        Classes, int64 ``[B]``, B ≥ 1.

    Raises
    ------
    DataError
        If there are no rows.
    """
    if not len(labels):
        raise DataError("There are no nodes to score.")
    return float((predicted == labels).double().mean())


def recalls(predicted: Tensor, labels: Tensor, num_classes: int) -> list[float | None]:
    """Return the recall of each class, in ``[0, 1]``; None for a class that is not in `labels`.

    Parameters
    ----------
    predicted, labels : Tensor
        Classes, int64 ``[B]``.
    num_classes : int
        C.
    """
    sizes = torch.bincount(labels, minlength=num_classes).tolist()
    right = torch.bincount(labels[predicted == labels], minlength=num_classes).tolist()
    return [hits / size if size else None for hits, size in zip(right, sizes, strict=True)]


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the mean recall over the classes in `labels`, in ``[0, 1]``; both int64 ``[B]``, B ≥ 1."""
    found = [value for value in recalls(predicted, labels, int(labels.max()) + 1) if value is not None]
    return sum(found) / len(found)


def macro_f1(predicted: Tensor, labels: Tensor) -> float:
    """Return the mean F1 over the classes in `labels` or `predicted`, in ``[0, 1]``; both int64 ``[B]``, B ≥ 1."""
    # Slow to import, and predictions do not need it.
    from sklearn.metrics import f1_score

    of_classes = f1_score(labels.numpy(), predicted.numpy(), average=None).tolist()
    return sum(of_classes) / len(of_classes)


def validation_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of correct predictions in float32, in which epochs are compared; `labels` int64 ``[B]``."""
    return float((predictions(logits) == labels).float().mean())


def validation_score(logits: Tensor, labels: Tensor, select_by: SelectBy) -> float:
    """Return the score by which models are compared on validation nodes, in ``[0, 1]``; `labels` int64 ``[B]``.

    The balanced accuracy or the macro F1 if `select_by` is one of them, otherwise the accuracy.
    """
    if select_by == "balanced_accuracy":
        return balanced_accuracy(predictions(logits), labels)
    if select_by == "macro_f1":
        return macro_f1(predictions(logits).cpu(), labels.cpu())
    return validation_accuracy(logits, labels)


def validation_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy in nats; `labels` int64 ``[B]``."""
    return float(functional.cross_entropy(logits, labels))


def selection_score(score: float, loss: float, select_by: SelectBy) -> float:
    """Return the validation score of an epoch; the largest is the best.

    On a few hundred validation nodes many epochs have the same accuracy by chance, and the loss breaks the ties. The
    loss alone would prefer an underconfident epoch over a more accurate one. ``"both"`` weights a nat of loss like 30
    percentage points of accuracy.

    Parameters
    ----------
    score : float
        The `validation_score`, in ``[0, 1]``.
    loss : float
        Mean cross-entropy there, in nats.
    select_by : {"accuracy", "balanced_accuracy", "macro_f1", "loss", "both"}
    """
    if select_by == "loss":
        return -loss
    return score - _ACCURACY_PER_NAT * loss if select_by == "both" else score
