"""Expert specialisation: how the last layers of RbM and of a mixture of experts route the handwritten digits.

Plots each student's last router space by t-SNE, coloured by digit and by top expert, and each expert's share of every
digit. Prints the normalised mutual information of top expert and digit. `dgl-rbm study routing` does this for any
dataset, over several seeds, and adds the stability of routing over epochs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from dgl_rbm import Distiller
from dgl_rbm.evaluation.routing import expert_label_nmi, routed_rows, tsne_embedding
from dgl_rbm.experiments.plots import Points, draw_points, new_figure, save_figure
from dgl_rbm.training.routing_record import top_experts

EXPERTS = 8
POINTS = 700


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the figures")
    out = parser.parse_args().out

    shared = tempfile.mkdtemp()  # both runs share one teacher
    figure, rows = new_figure(2, 3, width=14, height=8)
    for (by_digit, by_expert, shares), (kind, name) in zip(rows, (("rbm", "RbM"), ("moe", "MoE")), strict=True):
        student = {"kind": kind, "num_experts": EXPERTS, "top_k": 3}
        result = Distiller(student=student, training={"epochs": 150, "patience": 60}).fit("digits", shared=shared)
        labels = result.task.test_labels()
        routed = routed_rows(result.student, result.inputs(result.task.test_idx))
        experts = top_experts(routed.gates)
        information = expert_label_nmi(experts, labels)
        print(
            f"{name}: test accuracy {result.metrics.student.test_accuracy:.2%}, "
            f"normalised mutual information of digit and top expert {information:.2f}"
        )

        some = np.random.default_rng(0).permutation(len(labels))[:POINTS]
        points = tsne_embedding(routed.points[some], spherical=routed.spherical)
        draw_points(by_digit, Points(points, labels[some], "digit"), title=f"{name}: last router by digit")
        draw_points(by_expert, Points(points, experts[some], "expert"), title=f"{name}: last router by top expert")

        counts = np.zeros((EXPERTS, 10))
        np.add.at(counts, (experts.numpy(), labels.numpy()), 1)
        image = shares.imshow(100 * counts / counts.sum(axis=0), cmap="Blues", vmin=0, vmax=100, aspect="auto")
        shares.set(xlabel="Digit", ylabel="Expert", xticks=range(10), yticks=range(EXPERTS))
        shares.set_title(f"{name}: top expert of each digit, NMI {information:.2f}")
        figure.colorbar(image, ax=shares, label="Share of the digit's images (%)")
    save_figure(figure, out / "what_routing_learned.png")


if __name__ == "__main__":
    main()
