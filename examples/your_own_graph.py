"""Your own graph: from NumPy arrays to a saved model that predicts unseen rows.

The data are scikit-learn's breast cancer table. Five measurements are the features; the graph links samples that are
similar in the twenty other columns. The last 150 samples arrive after training, as rows of features with the ids of
the samples that they are linked to.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import scale

from dgl_rbm import Distiller, Run, dgl, task_from_graph

NEW = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")

    # Arrays: features [N, F], labels [N], and edges as two arrays of node ids.
    table = load_breast_cancer()
    features = table.data[:, [1, 4, 5, 8, 9]].astype(np.float32)
    elsewhere = scale(table.data[:, 10:])
    known, new = slice(None, -NEW), slice(-NEW, None)
    search = NearestNeighbors(n_neighbors=6).fit(elsewhere[known])
    nearest = search.kneighbors(return_distance=False)
    source, destination = nearest.ravel(), np.repeat(np.arange(len(nearest)), 6)

    graph = dgl.graph((torch.from_numpy(source), torch.from_numpy(destination)), num_nodes=len(nearest))
    graph.ndata["measurements"] = torch.from_numpy(features[known])
    graph.ndata["diagnosis"] = torch.from_numpy(table.target[known])

    # The columns differ in scale. The normalisation is saved with the model and applied to new rows too.
    task = task_from_graph(
        graph, features="measurements", labels="diagnosis", split="0.6/0.2/0.2", normalize="standard", symmetrize=True
    )
    result = Distiller(student={"kind": "rbm", "hidden_dim": 64}).fit(task)
    result.save(out / "your_own_graph_run")

    # Raw rows in, probabilities out. This part does not need DGL.
    predictor = Run.load(out / "your_own_graph_run").predictor
    neighbors = search.kneighbors(elsewhere[new], return_distance=False).tolist()
    labels = table.target[new]
    probabilities = {
        "row and its 6 neighbours": predictor.predict_proba(features[new], neighbors=neighbors),
        "row alone": predictor.predict_proba(features[new]),
    }

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    predicted = probabilities["row and its 6 neighbours"].argmax(dim=1)
    ConfusionMatrixDisplay.from_predictions(
        labels, predicted, display_labels=table.target_names, cmap="Blues", colorbar=False, ax=left
    )
    left.set(title=f"{NEW} new samples, with neighbours", xlabel="Predicted", ylabel="Actual")
    for (name, of_class), colour in zip(probabilities.items(), ("tab:red", "tab:gray"), strict=True):
        accuracy = (of_class.argmax(dim=1).numpy() == labels).mean()
        right_class = of_class.numpy()[np.arange(NEW), labels]
        right.plot(np.sort(right_class), color=colour, label=f"{name}: {accuracy:.1%} right")
        print(f"{name}: {accuracy:.1%} right")
    right.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    right.set(xlabel="New samples, sorted", ylabel="Probability of the right class", ylim=(0, 1.02))
    right.set_title("How sure the student is")
    right.legend(loc="lower right")
    figure.savefig(out / "your_own_graph.png", dpi=120)


if __name__ == "__main__":
    main()
