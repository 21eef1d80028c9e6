"""What routing learned: where the last layer of RbM and of a mixture of experts sends the handwritten digits.

Draws each student's last hidden space by t-SNE, coloured by digit and by first expert, and how often
each expert comes first for each digit. Prints how much the experts know of the digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from dgl_rbm import DistillationResult, Distiller

EXPERTS = 8
POINTS = 700


def last_layer(result: DistillationResult) -> tuple[Tensor, Tensor]:
    """Return the inputs ``[T, H]`` and the gates ``[T, E]`` of the student's last layer on the test nodes."""
    hidden, routing = result.student.routings(result.inputs(result.task.test_idx))[-1]
    return hidden, routing.gates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")

    figure, rows = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    for (by_digit, by_expert, shares), (kind, name) in zip(rows, (("rbm", "RbM"), ("moe", "MoE")), strict=True):
        student = {"kind": kind, "num_experts": EXPERTS, "top_k": 3}
        result = Distiller(student=student, training={"epochs": 150, "patience": 60}).fit("digits")
        labels = result.task.test_labels().numpy()
        hidden, gates = last_layer(result)
        experts = gates.argmax(dim=1).numpy()
        information = normalized_mutual_info_score(labels, experts)
        print(
            f"{name}: test accuracy {result.metrics['student']['test_accuracy']:.2%}, "
            f"normalised mutual information of digit and first expert {information:.2f}"
        )

        some = np.random.default_rng(0).permutation(len(labels))[:POINTS]
        points = TSNE(init="pca", random_state=0).fit_transform(torch.nn.functional.normalize(hidden[some]).numpy())
        for axes, values, title in (
            (by_digit, labels[some], "by digit"),
            (by_expert, experts[some], "by first expert"),
        ):
            drawn = axes.scatter(*points.T, c=values, cmap="tab10", vmin=-0.5, vmax=9.5, s=9)
            axes.set(title=f"{name}: last hidden space {title}", xlabel="t-SNE 1", ylabel="t-SNE 2")
            axes.set(xticks=[], yticks=[])
            axes.legend(*drawn.legend_elements(num=None), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

        counts = np.zeros((EXPERTS, 10))
        np.add.at(counts, (experts, labels), 1)
        image = shares.imshow(100 * counts / counts.sum(axis=0), cmap="Blues", vmin=0, vmax=100, aspect="auto")
        shares.set(xlabel="Digit", ylabel="Expert", xticks=range(10), yticks=range(EXPERTS))
        shares.set_title(f"{name}: first expert of each digit, NMI {information:.2f}")
        figure.colorbar(image, ax=shares, label="Share of the digit's images (%)")
    figure.savefig(out / "what_routing_learned.png", dpi=110)


if __name__ == "__main__":
    main()
