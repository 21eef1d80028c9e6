"""One epoch of distillation, as published and in this package, interleaved in one process.

    DGL_RBM_DATA=path/to/data python benchmarks/distillation_step.py --out benchmarks/results/distillation_step.json
    DGL_RBM_DATA=path/to/data python benchmarks/distillation_step.py --accuracy 40 --graphs cpf-cora

Both share teacher, DeepWalk encodings and reliabilities. Widths, experts and weights are the published hyperparameters
of the RbM paper for GraphSAGE teachers in the transductive setting. Routed epochs, training and validation, are timed
in turn: one of the baseline (`as_published.py`), one of the package. The floor is the time of the dense matrix products
of the package's epoch, at the throughput of large matrix products on this machine in the same run: three products per
layer (forward, and two backward; the first layer needs no input gradient) and one for validation. Sparse first layers
count non-zeros only.

``--accuracy N`` trains both for up to N routed epochs over several seeds, and reports validation accuracies and the
time to the best epoch. The arXiv-shaped graph is random; it has the features and classes of ogbn-arxiv, and its nodes
and edges divided by ``--share``. The time is proportional to nodes and edges.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from as_published import PublishedRbM, PublishedStep, StepOptions
from timing import alternate, write_json

from dgl_rbm.data.load import load_task
from dgl_rbm.rows.sparse import StructuredRows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.pipeline import Pipeline
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.training.student import fit_student

# Published settings for GraphSAGE teachers, transductive.
PUBLISHED: dict[str, dict[str, Any]] = {
    "cpf-cora": {
        "teacher": {"num_layers": 3, "hidden_dim": 512, "dropout": 0.5},
        "student": {"num_layers": 3, "hidden_dim": 512, "dropout": 0.3, "num_experts": 4, "commitment_weight": 0.0,
                    "self_similarity_weight": 0.01, "load_balance_weight": 0.01, "input_attention": False,
                    "pretrain_epochs": 12},
        "training": {"lr": 0.01, "weight_decay": 5e-4},
        "objective": {"hard_label_weight": 0.2, "temperature": 1.29},
        "encoder": {"walk_length": 50, "walks_per_node": 5, "window": 5, "dim": 64},
    },
    "amazon-photo": {
        "teacher": {"num_layers": 2, "hidden_dim": 1024, "dropout": 0.3},
        "student": {"num_layers": 2, "hidden_dim": 1024, "dropout": 0.0, "num_experts": 5, "commitment_weight": 0.05,
                    "self_similarity_weight": 0.05, "load_balance_weight": 0.05, "input_attention": True,
                    "pretrain_epochs": 3},
        "training": {"lr": 0.01, "weight_decay": 5e-4},
        "objective": {"hard_label_weight": 0.4, "temperature": 0.5},
        "encoder": {"walk_length": 30, "walks_per_node": 1, "window": 5, "dim": 64},
    },
    "academic-cs": {
        "teacher": {"num_layers": 2, "hidden_dim": 128, "dropout": 0.6},
        "student": {"num_layers": 2, "hidden_dim": 128, "dropout": 0.5, "num_experts": 7, "commitment_weight": 0.05,
                    "self_similarity_weight": 0.01, "load_balance_weight": 0.025, "input_attention": True,
                    "pretrain_epochs": 3},
        "training": {"lr": 0.005, "weight_decay": 1e-4},
        "objective": {"hard_label_weight": 0.3, "temperature": 0.75},
        "encoder": {"walk_length": 70, "walks_per_node": 1, "window": 5, "dim": 64},
    },
    "arxiv-shaped": {
        "teacher": {"num_layers": 3, "hidden_dim": 256, "dropout": 0.6, "norm": "batch"},
        "student": {"num_layers": 3, "hidden_dim": 1024, "dropout": 0.2, "num_experts": 5, "commitment_weight": 0.05,
                    "self_similarity_weight": 0.01, "load_balance_weight": 1e-7, "input_attention": False,
                    "pretrain_epochs": 4, "norm": "batch"},
        "training": {"lr": 0.005, "weight_decay": 0.0, "batch_size": 4096},
        "objective": {"hard_label_weight": 0.2, "temperature": 1.0},
        "encoder": {"walk_length": 50, "walks_per_node": 5, "window": 5, "dim": 128},
    },
}  # fmt: skip


def dataset(name: str, share: int) -> Any:
    """Return the specification of a dataset."""
    if name != "arxiv-shaped":
        return name
    nodes = 169_343 // share
    return {"kind": "synthetic", "num_nodes": nodes, "num_features": 128, "num_classes": 40,
            "average_degree": 2 * 1_166_243 / 169_343}  # fmt: skip


class Setup:
    """Shared inputs of both contenders, for one graph and seed."""

    def __init__(self, name: str, seed: int, share: int, epochs: int, teacher_epochs: int) -> None:
        options = PUBLISHED[name]
        config = resolve_config(
            {
                "dataset": dataset(name, share),
                "teacher": {"kind": "sage", **options["teacher"], "training": {"epochs": teacher_epochs}},
                "student": {"kind": "rbm", "top_k": 3, **options["student"]},
                "encoder": {"kind": "deepwalk", "consistent": False, "weight": 1.0, **options["encoder"]},
                # Without a warm-up every epoch predicts all rows and updates the power: the most expensive epochs.
                "regularizer": {"kind": "krd", "warmup_epochs": 0},
                "objective": options["objective"],
                "training": {**options["training"], "epochs": epochs, "patience": epochs},
                "seed": seed,
            }
        )
        self.config, self.context = config, RunContext(seed=seed)
        task = load_task(config.dataset, "transductive", seed)
        self.pipeline = Pipeline(task, config, self.context, {})
        teacher, output = self.pipeline.fit_teacher()
        encodings = self.pipeline.fit_encodings(teacher, output)
        self.table = self.pipeline.make_table(output, encodings)
        self.terms = self.pipeline.loss_terms(teacher, output)
        self.student = self.pipeline.build_student(teacher, self.table, config.student)
        self.graph = task.graph

    def ours(self, callback: Callback) -> Any:
        """Train the student of the package."""
        context = RunContext(seed=self.config.seed, callbacks=[callback])
        return fit_student(self.student, self.table, context, self.config.training, self.config.objective, self.terms)

    def published(self) -> PublishedStep:
        """Return the baseline before its first routed epoch."""
        table, student, objective = self.table, self.config.student, self.config.objective
        inputs = table.inputs.to_dense() if isinstance(table.inputs, StructuredRows) else table.inputs
        torch.manual_seed(self.config.seed)
        module = PublishedRbM(inputs.shape[1], table.num_classes, student.model_dump())
        module.start_routing(inputs[:20_000])
        targets = self.terms[0]
        loops = self.graph.edges()[0] != self.graph.edges()[1]
        return PublishedStep(
            module,
            inputs,
            table.labels,
            table.train_idx,
            table.val_idx,
            table.teacher_logits,
            tuple(ends[loops] for ends in self.graph.edges()),
            targets._sampling_weights(),
            StepOptions(
                objective.hard_label_weight,
                objective.temperature,
                self.config.training.lr,
                self.config.training.weight_decay,
                student.memory_momentum,
                self.config.training.batch_size or len(table),
            ),
        )

    def multiplications(self) -> float:
        """Return the multiply-adds of the matrix products of one routed epoch, a lower bound for any implementation."""
        options = self.config.student
        inputs = self.table.inputs
        parts = inputs.parts if isinstance(inputs, StackedRows) else [inputs]
        entries = sum(part.csr.values().numel() if isinstance(part, StructuredRows) else part.numel() for part in parts)
        count, width = len(self.table), options.hidden_dim
        first = entries * width
        others = count * width * (width * (options.num_layers - 2) + self.table.num_classes)
        return options.top_k * (3 * first + 4 * others)


class Interleaved(Callback):
    """Time the package's routed epochs, and run and time `other` after each of them."""

    def __init__(self, other: Callable[[], Any], skip: int) -> None:
        self.other, self.skip = other, skip
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self._last = 0.0

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        now = time.perf_counter()
        if stage == "student" and done > self.skip:
            self.ours.append(now - self._last)
            self.other()
            self.theirs.append(time.perf_counter() - now)
        self._last = time.perf_counter()


def epochs(name: str, repeats: int, share: int) -> dict[str, Any]:
    """Time routed epochs of both contenders in turn."""
    setup = Setup(name, 0, share, epochs=repeats + 1, teacher_epochs=20)
    baseline = setup.published()
    watch = Interleaved(baseline.epoch, setup.student.pretrain_epochs + 1)
    setup.ours(watch)
    a, b = torch.randn(4096, 1024), torch.randn(1024, 1024)
    rate = 4096 * 1024 * 1024 / alternate({"product": lambda: a @ b}, 9)["product"]
    floor = setup.multiplications() / rate
    ratios = [theirs / ours for theirs, ours in zip(watch.theirs, watch.ours, strict=True)]
    return {
        "graph": name,
        "nodes": len(setup.table),
        "edges": setup.graph.num_edges(),
        "published_seconds": median(watch.theirs),
        "seconds": median(watch.ours),
        "ratio": median(ratios),
        "floor_seconds": floor,
    }


class Curve(Callback):
    """Record time and validation accuracy of each routed epoch."""

    def __init__(self, skip: int) -> None:
        self.skip, self.seconds, self.accuracies = skip, [], []
        self._last = time.perf_counter()

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        now = time.perf_counter()
        if stage == "student":
            self.seconds.append(now - self._last)
            if done > self.skip:
                self.accuracies.append(metrics["val_accuracy"])
        self._last = now


def accuracy(name: str, seeds: int, limit: int, share: int) -> dict[str, Any]:
    """Train both over several seeds; return the best validation accuracies and the times to reach them."""
    found: dict[str, list[float]] = {"published": [], "ours": [], "published_best_s": [], "ours_best_s": []}
    for seed in range(seeds):
        setup = Setup(name, seed, share, epochs=limit, teacher_epochs=200)
        baseline = setup.published()
        curve = Curve(setup.student.pretrain_epochs)
        setup.ours(curve)
        best = max(curve.accuracies)
        found["ours"].append(best)
        found["ours_best_s"].append(sum(curve.seconds[: curve.skip + curve.accuracies.index(best) + 1]))
        scores, times = [], []
        for _ in range(limit):
            start = time.perf_counter()
            scores.append(baseline.epoch())
            times.append(time.perf_counter() - start)
        found["published"].append(max(scores))
        found["published_best_s"].append(sum(times[: scores.index(max(scores)) + 1]))
        print(name, seed, {key: round(values[-1], 4) for key, values in found.items()}, flush=True)
    spread = {key: [mean(values), stdev(values) if seeds > 1 else 0.0] for key, values in found.items()}
    return {"graph": name, "epochs": limit, "seeds": seeds, **spread}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--repeats", type=int, default=5, help="timed pairs of epochs")
    parser.add_argument("--share", type=int, default=16, help="factor by which the arXiv-shaped graph is smaller")
    parser.add_argument("--accuracy", type=int, metavar="N", help="train up to N routed epochs instead of timing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    results = []
    if options.accuracy:
        for name in options.graphs:
            results.append(accuracy(name, options.seeds, options.accuracy, options.share))
            write_json(options.out, results)
        return
    print("| graph | as published | ours | times faster | floor | ours / floor |\n|---|---|---|---|---|---|")
    for name in options.graphs:
        result = epochs(name, options.repeats, options.share)
        results.append(result)
        print(
            f"| {name} | {result['published_seconds']:.3g} s | {result['seconds']:.3g} s | {result['ratio']:.1f} "
            f"| {result['floor_seconds']:.3g} s | {result['seconds'] / result['floor_seconds']:.2f} |",
            flush=True,
        )
        write_json(options.out, results)


if __name__ == "__main__":
    main()
