"""Sampled training: a GraphSAGE on 20,000 nodes by neighbour sampling, with different fan-outs.

Plots validation accuracy against training time. Predictions use all neighbours, layer by layer in batches of nodes, so
that neither training nor prediction holds the whole graph's hidden states on the device.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from dgl_rbm import Callback, NodeTask, RunContext
from dgl_rbm.data import load_task
from dgl_rbm.registry import teachers
from dgl_rbm.teachers.inference import layerwise_output
from dgl_rbm.teachers.sampling import place
from dgl_rbm.teachers.training import GNNTeacher

GRAPH = {"kind": "synthetic", "num_nodes": 20_000, "average_degree": 20, "homophily": 0.5, "feature_signal": 1.0}
WAYS = {
    "2 neighbours per layer": {"sampler": "neighbor", "fanouts": [2, 2], "epochs": 9},
    "5 neighbours per layer": {"sampler": "neighbor", "fanouts": [5, 5], "epochs": 6},
    "10 neighbours per layer": {"sampler": "neighbor", "fanouts": [10, 10], "epochs": 4},
    "all neighbours": {"sampler": "neighbor", "fanouts": [-1, -1], "epochs": 3},
    "full graph, one step per epoch": {"sampler": "full", "epochs": 20},
}


def predict(teacher: GNNTeacher, task: NodeTask) -> Tensor:
    """Predict the class of every node, layer by layer, from all neighbours."""
    view = task.full()
    placement = place(teacher.module, view, teacher.device)
    return layerwise_output(teacher.module, view.graph, view.features, placement).logits.argmax(dim=1)


class Watch(Callback):
    """Record the accuracies after each epoch and the training time so far."""

    def __init__(self, teacher: GNNTeacher, task: NodeTask) -> None:
        self.teacher, self.task = teacher, task
        self.seconds, self.accuracy, self.sampled = [0.0], [], []

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self.since = time.perf_counter()

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        self.seconds.append(self.seconds[-1] + time.perf_counter() - self.since)
        right = predict(self.teacher, self.task)[self.task.val_idx] == self.task.val_labels()
        self.accuracy.append(100 * float(right.float().mean()))
        self.sampled.append(100 * metrics["val_accuracy"])
        self.since = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")

    task = load_task(GRAPH)
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for name, training in WAYS.items():
        config = teachers.resolve({"kind": "sage", "hidden_dim": 64, "training": training})
        torch.manual_seed(0)  # the same initial weights for all
        teacher = config.build(task.features.shape[1], task.num_classes)
        watch = Watch(teacher, task)
        teacher.fit(task.observed(), RunContext(seed=0, callbacks=[watch]))
        (line,) = axes.plot(watch.seconds[1:], watch.accuracy, marker=".", label=name)
        axes.plot(watch.seconds[1:], watch.sampled, marker=".", alpha=0.5, linestyle=":", color=line.get_color())
        test = float((predict(teacher, task)[task.test_idx] == task.test_labels()).float().mean())
        print(f"{name}: {watch.seconds[-1]:.1f} s, test accuracy {test:.1%}")
    axes.plot([], [], color="black", linestyle=":", label="dotted: validated on sampled neighbours")
    axes.set(xlabel="Training time (s)", ylabel="Validation accuracy (%)")
    axes.set_title(f"GraphSAGE on {task.graph.num_nodes():,} nodes and {task.graph.num_edges():,} edges")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(out / "sampled_training.png", dpi=120)


if __name__ == "__main__":
    main()
