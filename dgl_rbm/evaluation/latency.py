"""Measured prediction time per node, what must be fetched for it included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.data.task import GraphView
from dgl_rbm.rows.sparse import take
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher

__all__ = ["student_latency", "student_server", "teacher_latency"]

_WARMUP = 5


@contextmanager
def _one_thread() -> Iterator[None]:
    """A server answers small requests side by side, and for one of them a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def _measure(predict: Callable[[Tensor], Any], requests: Sequence[Tensor], synchronize: Callable[[], None]) -> Any:
    """Return the seconds of each request on one thread; a few unmeasured ones come first."""
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


def student_server(student: Student, encodings: Encodings, view: GraphView) -> Callable[[Tensor], Tensor]:
    """Return a function that answers requests as `student_latency` times them: node ids ``[B]`` to logits ``[B, C]``.

    Every node is taken for an unseen one, whose encoding is the mean over its neighbours' vectors.
    """
    device = next(student.parameters()).device
    pointers, neighbors, _ = (torch.as_tensor(part) for part in view.graph.adj_tensors("csc"))
    pointers, neighbors = pointers.long(), neighbors.long()

    def predict(ids: Tensor) -> Tensor:
        rows = take(view.features, ids)
        if encodings.dim:
            lengths = pointers[ids + 1] - pointers[ids]
            owner = torch.repeat_interleave(torch.arange(len(ids)), lengths)
            within = torch.arange(len(owner)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
            near = neighbors[torch.repeat_interleave(pointers[ids], lengths) + within]
            rows = hstack(rows, encodings.unseen(len(ids), owner, near))
        with torch.no_grad():
            # Back to the host, where the answer to a request is needed.
            return student(rows.to(device)).cpu()

    return predict


def student_latency(student: Student, encodings: Encodings, view: GraphView, *, repeats: int = 200) -> dict[str, float]:
    """Time a student as it serves unseen nodes: gather rows, average neighbours' vectors, predict.

    The neighbour ids of a node are taken to be at hand with the request, as its features are.

    Returns
    -------
    dict of str to float
        ``p50_us`` and ``p99_us`` of requests for one node, ``batch_us`` per node in requests for 1,024 nodes
        (microseconds), and ``fetched_rows``, the mean number of stored rows that one node reads.
    """
    predict = student_server(student, encodings, view)
    was_training = student.training
    student.serve()
    synchronize = _synchronizer(next(student.parameters()).device)
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
    """Time a teacher that fetches each node's whole neighbourhood; None where it cannot be asked for single nodes.

    Returns
    -------
    dict of str to float or None
        ``p50_us`` and ``p99_us`` of requests for one node (microseconds), and ``fetched_rows``, the mean number
        of feature rows that one node reads.
    """
    fetched: list[int] = []

    def predict(ids: Tensor) -> None:
        fetched.append(teacher.predict_nodes(view, ids)[1])

    if not teacher.predicts_single_nodes:
        return None
    # Nothing to wait for: the logits come back to the host.
    seconds = _measure(predict, _requests(len(view), 1, repeats), lambda: None)
    return {**_percentiles(seconds), "fetched_rows": float(np.mean(fetched))}
