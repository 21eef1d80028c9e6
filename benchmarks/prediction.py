"""Prediction time of students, of an MLP with the same active size, and of the teacher, which fetches neighbourhoods.

    python benchmarks/prediction.py --out benchmarks/results/prediction.json

The graph is random, with the nodes, edges, features and classes of ogbn-arxiv. Models are not trained: times do not
depend on the weights, and RbM starts its routing from k-means centres of the graph's features. A request is a batch of
random unseen nodes. Students read the features, average the stored vectors of the neighbours, and predict; the teacher
fetches complete neighbourhoods, or samples them with the training fan-outs of 10. Contenders take turns, each with
several requests after an untimed one, because another model in between would evict a server's model from the caches.
All run on one thread, since a server runs small requests in parallel. The MLP of the same active size has the width
whose number of parameters is closest to RbM's active parameters.
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
from dgl_rbm.evaluation.complexity import width_for_active_parameters
from dgl_rbm.evaluation.latency import unseen_inputs
from dgl_rbm.registry import encoders, students, teachers
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student


class Server:
    """Models, graph and encodings to serve requests with."""

    def __init__(self, hidden_dim: int, num_layers: int, share: int, device: torch.device) -> None:
        self.device = device
        graph = {"kind": "synthetic", "num_nodes": 169_343 // share, "num_features": 128, "num_classes": 40,
                 "average_degree": 2 * 1_166_243 / 169_343}  # fmt: skip
        self.task = load_task(graph)
        self.view = self.task.full()
        encoder = WeightedEncoder.from_config(encoders.resolve("diffusion"))
        self.encodings = fit_encodings([encoder], self.task.observed(), RunContext())
        self.unseen_inputs = unseen_inputs(self.encodings, self.view)
        sizes = {"hidden_dim": hidden_dim, "num_layers": num_layers}
        torch.manual_seed(0)
        inputs = hstack(self.view.features, self.encodings.values)
        rbm = students.resolve({"kind": "rbm", **sizes}).build(inputs.shape[1], self.task.num_classes)
        rbm.finish_pretraining(inputs)
        mlp = students.resolve({"kind": "mlp", **sizes}).build(inputs.shape[1], self.task.num_classes)
        config = students.resolve({"kind": "mlp", "num_layers": num_layers})
        width = width_for_active_parameters(config, rbm.in_dim, rbm.num_classes, rbm.num_active_parameters())
        equal = config.build(rbm.in_dim, rbm.num_classes, hidden_dim=width)
        self.students = {"rbm": rbm, "mlp, same width": mlp, "mlp, same active size": equal}
        for student in self.students.values():
            student.to(device).serve()
        self.teacher = teachers.resolve({"kind": "sage", **sizes}).build(128, self.task.num_classes)
        self.teacher.module.eval()
        self.sampler = dgl.dataloading.NeighborSampler([10] * num_layers)

    def contenders(self) -> dict[str, Callable[[Tensor], Any]]:
        """Return the functions of node ids to time, by name."""
        stored = hstack(self.view.features, self.encodings.values)

        def serve(student: Student, rows: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
            return lambda ids: student(rows(ids).to(self.device)).cpu()

        def sampled(ids: Tensor) -> Any:
            nodes, _, blocks = self.sampler.sample_blocks(self.view.graph, ids.unique())
            return self.teacher.module(blocks, self.view.features[nodes])

        known = {name: serve(student, lambda ids: stored[ids]) for name, student in self.students.items()}
        return {
            **known,
            "rbm, unseen node's encoding": serve(self.students["rbm"], self.unseen_inputs),
            "encoding alone": self.unseen_inputs,
            "teacher, sampled": sampled,
            "teacher, complete": lambda ids: self.teacher.predict_nodes(self.view, ids),
        }


def measure(server: Server, rows: int, rounds: int, burst: int) -> dict[str, dict[str, float]]:
    """Time all contenders in turn, each with the same `burst` requests per round."""
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
    parser.add_argument("--rows", type=int, nargs="+", default=(1, 64, 4096), help="nodes per request")
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--share", type=int, default=1, help="factor by which the graph is smaller")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of 20 requests; half as many of large ones")
    parser.add_argument("--device", default="cpu", help="device of the students: cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    server = Server(options.hidden_dim, options.num_layers, options.share, torch.device(options.device))
    read = ", ".join(f"{name} {student.num_active_parameters():,}" for name, student in server.students.items())
    print(f"{options.num_layers} layers of {options.hidden_dim} columns; active parameters: {read}\n")
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
