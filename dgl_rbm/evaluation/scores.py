"""Final scores of teacher and student; the test labels are read here, once for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.data.task import NodeTask
from dgl_rbm.encoders.fit import encode_nodes
from dgl_rbm.rows.sparse import Rows, take
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student
from dgl_rbm.tasks.multiclass import accuracy, balanced_accuracy, macro_f1, predictions, recalls

__all__ = ["agreement", "score", "student_inputs", "student_logits"]

# Share of unseen nodes in production requests (Tian et al. 2022).
UNSEEN_SHARE = 0.2

_NODES_AT_ONCE = 65_536


def student_inputs(encodings: Encodings, task: NodeTask, node_ids: Tensor) -> Rows:
    """Return the student's inputs for some nodes of a task, float32 ``[B, F + P]``.

    Parameters
    ----------
    encodings : Encodings
        Observed nodes use their own encodings; unseen nodes get theirs from their neighbours.
    task : NodeTask
        Normalised features and edges.
    node_ids : Tensor
        int64 ``[B]``, in any order.
    """
    unseen = torch.isin(node_ids, task.unseen_idx)
    encoded = torch.empty(len(node_ids), encodings.dim)
    encoded[~unseen] = encodings.known(node_ids[~unseen])
    encoded[unseen] = encode_nodes(encodings, task, node_ids[unseen])
    return hstack(take(task.features, node_ids), encoded)


def student_logits(
    student: Student,
    encodings: Encodings,
    task: NodeTask,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Predict all nodes of a task from the inputs that `student_inputs` returns.

    Parameters
    ----------
    student : Student
    encodings : Encodings
    task : NodeTask
    report : callable
        Called after every batch with the number of finished nodes and of all nodes.

    Returns
    -------
    Tensor
        float32 ``[N, C]``, on the CPU.
    """
    count = task.graph.num_nodes()
    logits = torch.empty(count, student.num_classes)
    # In batches: the inputs of all nodes would be another copy of features and encodings.
    for ids in torch.arange(count).split(_NODES_AT_ONCE):
        logits[ids] = student.logits(student_inputs(encodings, task, ids))
        report(int(ids[-1]) + 1, count)
    return logits


def score(task: NodeTask, logits: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Score all models on the validation and test nodes; the test labels are read once.

    Parameters
    ----------
    task : NodeTask
        Validation, test and unseen nodes with their labels.
    logits : mapping of str to Tensor
        Model name to the logits of all nodes, float32 ``[N, C]``.

    Returns
    -------
    dict of str to dict
        For each model the accuracy, balanced accuracy and recalls of the classes on validation nodes (``val_``) and on
        all test nodes (transductive) or the unseen nodes (inductive; ``test_``), there also ``test_macro_f1`` and
        ``only_prediction``, the class that is predicted for every node, if there is only one. The inductive setting
        adds ``observed_test_accuracy`` (test nodes that were in the graph during training) and
        ``production_accuracy`` (0.8 times the observed and 0.2 times the unseen accuracy); both are None if all test
        nodes are unseen.
    """
    labels, val_labels = task.test_labels(), task.val_labels()
    unseen = torch.isin(task.test_idx, task.unseen_idx)
    scored = unseen if task.setting == "inductive" else torch.ones_like(unseen)
    scores: dict[str, dict[str, Any]] = {}
    for name, all_logits in logits.items():
        predicted = predictions(all_logits)
        test_predictions = predicted[task.test_idx]
        scores[name] = {
            "test_accuracy": accuracy(test_predictions[scored], labels[scored]),
            "test_macro_f1": macro_f1(test_predictions[scored], labels[scored]),
            "test_balanced_accuracy": balanced_accuracy(test_predictions[scored], labels[scored]),
            "test_recalls": recalls(test_predictions[scored], labels[scored], task.num_classes),
            "only_prediction": _only(test_predictions[scored], task.classes),
            "val_accuracy": accuracy(predicted[task.val_idx], val_labels),
            "val_balanced_accuracy": balanced_accuracy(predicted[task.val_idx], val_labels),
            "val_recalls": recalls(predicted[task.val_idx], val_labels, task.num_classes),
        }
        if task.setting == "inductive":
            seen = None if bool(unseen.all()) else accuracy(test_predictions[~unseen], labels[~unseen])
            both = None if seen is None else (1 - UNSEEN_SHARE) * seen + UNSEEN_SHARE * scores[name]["test_accuracy"]
            scores[name] |= {"observed_test_accuracy": seen, "production_accuracy": both}
    return scores


def _only(predicted: Tensor, classes: Sequence[int | str]) -> int | str | None:
    """Return the label of the only class among predictions; None if there are several."""
    return classes[int(predicted[0])] if bool((predicted == predicted[0]).all()) else None


def agreement(task: NodeTask, first: Tensor, second: Tensor) -> float:
    """Return the share of test nodes (inductive: unseen nodes) for which two models predict the same class."""
    scored = task.unseen_idx if task.setting == "inductive" else task.test_idx
    return accuracy(predictions(first[scored]), predictions(second[scored]))
