"""A first distillation: three students learn from one GraphSAGE on the handwritten digits.

Plots learning curves, and test accuracy against the time of one prediction. The student's time includes fetching its
neighbours' stored vectors; the teacher's time includes fetching the neighbourhood that it reads. Digits can be
classified from their pixels alone; `inductive_unseen_nodes.py` shows a graph on which neighbours matter.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dgl_rbm import Distiller, Run

STUDENTS = {
    "MLP, features only": Distiller(student="mlp", encoder="none", training={"patience": 60}),
    "MLP": Distiller(student="mlp", training={"patience": 60}),
    "RbM": Distiller(student="rbm", training={"patience": 60}),
}
COLOURS = {"GraphSAGE (teacher)": "black", "MLP, features only": "tab:gray", "MLP": "tab:blue", "RbM": "tab:red"}


def curve(result: Run, stage: str) -> tuple[list[int], list[float]]:
    """Return epochs and validation accuracies in percent."""
    epochs = [entry for entry in result.history if entry["stage"] == stage and "val_accuracy" in entry]
    return [entry["step"] for entry in epochs], [100 * entry["val_accuracy"] for entry in epochs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")

    # The seed and the teacher's options are the same, so all three runs can share one teacher.
    with tempfile.TemporaryDirectory() as shared:
        results = {name: distiller.fit("digits", shared=shared) for name, distiller in STUDENTS.items()}
    first = next(iter(results.values()))
    curves = {"GraphSAGE (teacher)": curve(first, "teacher")}
    curves |= {name: curve(result, "student") for name, result in results.items()}
    scores = {"GraphSAGE (teacher)": first.metrics.teacher}
    scores |= {name: result.metrics.student for name, result in results.items()}

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, (epochs, accuracy) in curves.items():
        axes.plot(epochs, accuracy, color=COLOURS[name], label=name)
    axes.set(xlabel="Epoch", ylabel="Validation accuracy (%)", ylim=(80, 100), title="Learning curves on digits")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out / "first_distillation_curves.png", dpi=120)

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, score in scores.items():
        microseconds, share = score.latency.p50_us, score.test_accuracy
        accuracy, error = 100 * share, 100 * np.sqrt(share * (1 - share) / len(first.task.test_idx))
        axes.errorbar(microseconds, accuracy, error, fmt="o", markersize=9, capsize=4, color=COLOURS[name])
        text = f"{name}\nrows read: {score.latency.fetched_rows:.0f}"
        axes.annotate(text, (microseconds, accuracy + error), (0, 8), textcoords="offset points", ha="center")
        print(f"{name:20s} test accuracy {accuracy:.2f} %, one node in {microseconds:.0f} µs")
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.25)
    axes.set(xlabel="Median time for one node (µs)", ylabel="Test accuracy and its standard error (%)")
    axes.set_title("What a prediction costs")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(out / "first_distillation.png", dpi=120)


if __name__ == "__main__":
    main()
