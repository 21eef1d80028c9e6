"""Prediction latency per node, including the time to fetch a node's inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.data.neighbors import gather_in_neighbors
from dgl_rbm.data.structure import WEIGHT
from dgl_rbm.data.task import GraphView
from dgl_rbm.rows.sparse import Rows, take
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.runtime.process_state import isolated
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher

__all__ = ["student_latency", "student_server", "teacher_latency", "unseen_inputs"]

_WARMUP = 5


@isolated(threads=1)
def _measure(predict: Callable[[Tensor], Any], requests: Sequence[Tensor], synchronize: Callable[[], None]) -> Any:
    """Return the seconds of each request on one thread, after a few warm-up requests."""
    for ids in requests[:_WARMUP]:
        predict(ids)
    seconds = []
    for ids in requests:
        synchronize()
        start = time.perf_counter()
        predict(ids)
        synchronize()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def _percentiles(seconds: Any) -> dict[str, float]:
    return {f"p{q}_us": float(np.percentile(seconds, q) * 1e6) for q in (50, 99)}


def _synchronizer(device: torch.device) -> Callable[[], None]:
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else (lambda: None)


def _requests(count: int, size: int, repeats: int) -> list[Tensor]:
    return [torch.randint(count, (size,)) for _ in range(repeats)]


def unseen_inputs(encodings: Encodings, view: GraphView) -> Callable[[Tensor], Rows]:
    """Return the function from node ids ``[B]`` to student inputs ``[B, F + P]`` that treats every node as unseen.

    The encoding of an unseen node is the mean of its neighbours' vectors.
    """
    indptr, sources, _ = (torch.as_tensor(part).long() for part in view.graph.adj_tensors("csc"))
    weights = view.graph.edata.get(WEIGHT)

    def inputs(ids: Tensor) -> Rows:
        rows = take(view.features, ids)
        if not encodings.dim:
            return rows
        return hstack(rows, encodings.unseen(len(ids), *gather_in_neighbors(indptr, sources, ids, weights)))

    return inputs


def student_server(student: Student, encodings: Encodings, view: GraphView) -> Callable[[Tensor], Tensor]:
    """Return the function that `student_latency` times: ids of unseen nodes ``[B]`` to logits ``[B, C]``."""
    device = student.device
    inputs = unseen_inputs(encodings, view)

    def predict(ids: Tensor) -> Tensor:
        rows = inputs(ids)
        with torch.no_grad():
            # A request is complete when its logits are on the host.
            return student(rows.to(device)).cpu()

    return predict


def student_latency(student: Student, encodings: Encodings, view: GraphView, *, repeats: int = 200) -> dict[str, float]:
    """Time a serving student on unseen nodes: gather rows, average neighbours' vectors, predict.

    The features and neighbour ids of the nodes count as part of the request.

    Returns
    -------
    dict of str to float
        ``p50_us`` and ``p99_us`` of single-node requests, ``batch_us`` per node in requests of 1,024 nodes
        (microseconds), and ``fetched_rows``, the mean number of stored rows read per node.
    """
    predict = student_server(student, encodings, view)
    was_training = student.training
    student.serve()
    synchronize = _synchronizer(student.device)
    single = _measure(predict, _requests(len(view), 1, repeats), synchronize)
    batch = _measure(predict, _requests(len(view), 1024, max(5, repeats // 20)), synchronize)
    student.train(was_training)
    degree = view.graph.num_edges() / max(1, len(view))
    return {
        **_percentiles(single),
        "batch_us": float(np.median(batch) / 1024 * 1e6),
        "fetched_rows": 1.0 + (degree if encodings.dim else 0.0),
    }


def teacher_latency(teacher: Teacher, view: GraphView, *, repeats: int = 30) -> dict[str, float] | None:
    """Time a teacher that fetches the whole neighbourhood of each node.

    Returns
    -------
    dict of str to float or None
        ``p50_us`` and ``p99_us`` of single-node requests (microseconds), and ``fetched_rows``, the mean number of
        feature rows read per node. None if the teacher cannot predict single nodes.
    """
    fetched: list[int] = []

    def predict(ids: Tensor) -> None:
        fetched.append(teacher.predict_nodes(view, ids)[1])

    if not teacher.predicts_single_nodes:
        return None
    # No synchronisation: the logits are returned on the host.
    seconds = _measure(predict, _requests(len(view), 1, repeats), lambda: None)
    return {**_percentiles(seconds), "fetched_rows": float(np.mean(fetched))}
