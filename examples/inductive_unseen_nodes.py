"""Unseen nodes: a student's accuracy on nodes absent from training, by the number of known neighbours.

A fifth of a synthetic graph is hidden from all training. The features are weak, so the neighbourhood matters: with one
known neighbour or none, a student that relies on encodings may be less accurate than one without them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from dgl_rbm import Distiller, Run

GRAPH = {"kind": "synthetic", "num_nodes": 4000, "average_degree": 12, "feature_signal": 2.0, "unseen_fraction": 1.0}
KNOWN = [0, 1, 2, 3, 4, 6, 8, 12, 16]
DRAWS = 5


def fit(encoder: str | dict[str, object], shared: Path) -> Run:
    distiller = Distiller(
        teacher={"kind": "sage", "training": {"epochs": 60}},
        student={"kind": "mlp", "hidden_dim": 64},
        encoder=encoder,
        setting="inductive",
        training={"epochs": 120, "patience": 40},
    )
    return distiller.fit(GRAPH, shared=shared)


def observed_neighbors(result: Run) -> list[np.ndarray]:
    """Return, for each unseen node, the ids of its neighbours that were in the graph during training."""
    task = result.task
    unseen = set(task.unseen_idx.tolist())
    neighbors = (task.graph.predecessors(node).tolist() for node in task.unseen_idx.tolist())
    return [np.array([node for node in ids if node not in unseen], dtype=int) for ids in neighbors]


def accuracy(result: Run, predicted: Tensor) -> float:
    # All test nodes are unseen here.
    return 100 * float((predicted == result.task.test_labels()).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")

    shared = Path(tempfile.mkdtemp())  # all runs share one teacher
    plain = fit("none", shared)
    teacher = 100 * plain.metrics.teacher.test_accuracy
    alone = 100 * plain.metrics.student.test_accuracy
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhline(teacher, color="black", linestyle="--", label="teacher, whole neighbourhood")
    draw = np.random.default_rng(0)
    for steps, colour in ((1, "tab:orange"), (2, "tab:red")):
        result = fit({"kind": "diffusion", "steps": steps}, shared)
        features = result.task.features[result.task.unseen_idx]
        neighbors = observed_neighbors(result)
        means, deviations = [], []
        for known in KNOWN:
            of_draws = []
            for _ in range(DRAWS):
                kept = [draw.permutation(ids)[:known].tolist() for ids in neighbors]
                of_draws.append(accuracy(result, result.predictor.predict(features, neighbors=kept)))
            means.append(np.mean(of_draws))
            deviations.append(np.std(of_draws))
            print(f"{steps} diffusion steps, up to {known:2d} known neighbours: {means[-1]:.1f} %")
        label = f"student, features diffused {steps} step{'s' if steps > 1 else ''}"
        axes.errorbar(KNOWN, means, deviations, color=colour, marker="o", capsize=3, label=label)
    axes.axhline(alone, color="tab:gray", linestyle="--", label="student without encodings")
    print(f"teacher {teacher:.1f} %, student without encodings {alone:.1f} %")
    axes.set(xlabel="Known neighbours of an unseen node, at most", ylabel="Accuracy on unseen nodes (%)")
    axes.set_title(f"{len(features)} unseen nodes of a synthetic graph (mean and deviation of {DRAWS} draws)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out / "inductive_unseen_nodes.png", dpi=120)


if __name__ == "__main__":
    main()
