"""How long a prediction takes: students, an MLP of the same active size, and the teacher that fetches neighbourhoods.

    python benchmarks/prediction.py --out benchmarks/results/prediction.json

The graph is random with the nodes, edges, features and classes of ogbn-arxiv. Nothing is trained: times do not depend
on what the weights are, and RbM starts routing from k-means centres of the graph's own features. A request is a batch
of random nodes that no model has seen: students read the features, average the stored vectors of the neighbours, and
predict; the teacher fetches neighbourhoods, sampled with fan-outs of 10 as in training, or complete. Contenders take
turns, each with a few requests after one that is not timed, since a server's model is not driven from the caches by
another model in between; on one thread, as a server answers requests side by side. The MLP of the
same active size has the width that gives it as many parameters as one row's prediction by RbM reads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from timing import write_json
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.load import load_task
from dgl_rbm.encoders.fit import WeightedEncoder, fit_encodings
from dgl_rbm.registry import encoders, students, teachers
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student
from dgl_rbm.students.mlp import MLP


def equal_mlp(rbm: Student, num_layers: int) -> MLP:
    """Return the MLP whose number of parameters is nearest to those that RbM reads for a row."""

    def make(width: int) -> MLP:
        return MLP(rbm.in_dim, rbm.num_classes, hidden_dim=width, num_layers=num_layers)

    low, high = 1, 1 << 16
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if make(middle).num_parameters() >= rbm.num_active_parameters() else (middle + 1, high)
        )
    return make(low)


class Server:
    """Answers requests for nodes with one model or another."""

    def __init__(self, hidden_dim: int, num_layers: int, share: int, device: torch.device) -> None:
        self.device = device
        graph = {"kind": "synthetic", "num_nodes": 169_343 // share, "num_features": 128, "num_classes": 40,
                 "average_degree": 2 * 1_166_243 / 169_343}  # fmt: skip
        self.task = load_task(graph)
        self.view = self.task.full()
        encoder = WeightedEncoder.from_config(encoders.resolve("diffusion"))
        self.encodings = fit_encodings([encoder], self.task.observed(), RunContext())
        pointers, near, _ = self.view.graph.adj_tensors("csc")
        self.pointers, self.near = pointers.long(), near.long()
        sizes = {"hidden_dim": hidden_dim, "num_layers": num_layers}
        torch.manual_seed(0)
        inputs = hstack(self.view.features, self.encodings.values)
        rbm = students.resolve({"kind": "rbm", **sizes}).build(inputs.shape[1], self.task.num_classes)
        rbm.finish_pretraining(inputs)
        mlp = students.resolve({"kind": "mlp", **sizes}).build(inputs.shape[1], self.task.num_classes)
        self.students = {"rbm": rbm, "mlp, same width": mlp, "mlp, same active size": equal_mlp(rbm, num_layers)}
        for student in self.students.values():
            student.to(device).serve()
        self.teacher = teachers.resolve({"kind": "sage", **sizes}).build(128, self.task.num_classes)
        self.teacher.module.eval()
        self.sampler = dgl.dataloading.NeighborSampler([10] * num_layers)

    def encoded(self, ids: Tensor) -> Any:
        """Return rows of features beside the encodings of unseen nodes."""
        lengths = self.pointers[ids + 1] - self.pointers[ids]
        owner = torch.repeat_interleave(torch.arange(len(ids)), lengths)
        within = torch.arange(len(owner)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        near = self.near[torch.repeat_interleave(self.pointers[ids], lengths) + within]
        return hstack(self.view.features[ids], self.encodings.unseen(len(ids), owner, near))

    def contenders(self) -> dict[str, Callable[[Tensor], Any]]:
        """Return what answers a request for nodes, by name."""
        stored = hstack(self.view.features, self.encodings.values)

        def serve(student: Student, rows: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
            return lambda ids: student(rows(ids).to(self.device)).cpu()

        def sampled(ids: Tensor) -> Any:
            nodes, _, blocks = self.sampler.sample_blocks(self.view.graph, ids.unique())
            return self.teacher.module(blocks, self.view.features[nodes])

        known = {name: serve(student, lambda ids: stored[ids]) for name, student in self.students.items()}
        return {
            **known,
            "rbm, unseen node's encoding": serve(self.students["rbm"], self.encoded),
            "encoding alone": self.encoded,
            "teacher, sampled": sampled,
            "teacher, complete": lambda ids: self.teacher.predict_nodes(self.view, ids),
        }


def measure(server: Server, rows: int, rounds: int, burst: int) -> dict[str, dict[str, float]]:
    """Time all contenders in turn, each with the same `burst` requests a round."""
    contenders = server.contenders()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.inference_mode():
        for _ in range(rounds):
            requests = [torch.randint(len(server.view), (rows,)) for _ in range(burst + 1)]
            for name, answer in contenders.items():
                answer(requests[0])
                for ids in requests[1:]:
                    start = time.perf_counter()
                    answer(ids)
                    seconds[name].append(time.perf_counter() - start)
    equal = seconds["mlp, same active size"]
    return {
        name: {
            "p50_us": 1e6 * median(values),
            "p99_us": 1e6 * float(np.percentile(values, 99)),
            "nodes_per_second": rows / median(values),
            "over_equal_mlp": median(a / b for a, b in zip(values, equal, strict=True)),
            "teacher_over": median(b / a for a, b in zip(values, seconds["teacher, sampled"], strict=True)),
        }
        for name, values in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=(1, 64, 4096), help="nodes a request")
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--share", type=int, default=1, help="make the graph this many times smaller")
    parser.add_argument("--rounds", type=int, default=15, help="turns of 20 requests; half as many of one large one")
    parser.add_argument("--device", default="cpu", help="of the students: cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    server = Server(options.hidden_dim, options.num_layers, options.share, torch.device(options.device))
    read = ", ".join(f"{name} {student.num_active_parameters():,}" for name, student in server.students.items())
    print(f"{options.num_layers} layers of {options.hidden_dim} columns; parameters read for a row: {read}\n")
    print("| nodes | model | p50 | p99 | nodes / s | over equal MLP | times faster than the sampled teacher |")
    print("|---|---|---|---|---|---|---|")
    results = []
    for rows in options.rows:
        rounds, burst = (options.rounds, 20) if rows < 1024 else (options.rounds // 2, 1)
        for name, values in measure(server, rows, rounds, burst).items():
            results.append({"rows": rows, "model": name, **values})
            print(
                f"| {rows:,} | {name} | {values['p50_us']:,.0f} µs | {values['p99_us']:,.0f} µs "
                f"| {values['nodes_per_second']:,.0f} | {values['over_equal_mlp']:.2f} "
                f"| {values['teacher_over']:.1f} |",
                flush=True,
            )
    sizes = {"hidden_dim": options.hidden_dim, "num_layers": options.num_layers, "device": options.device}
    write_json(options.out, {"sizes": sizes, "measured": results})


if __name__ == "__main__":
    main()
