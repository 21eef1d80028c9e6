"""Speed and linear-probe accuracy of structural encodings without features.

Three encoders are timed in turn in one process, so that fluctuations of the machine's load affect all alike:

- the baseline: random walks in plain Python over networkx, then gensim's skip-gram with one worker;
- `deepwalk` of this package with the same walk options;
- `spectral` of this package.

Only ratios of times are reliable. The accuracy is that of scikit-learn's logistic regression on standardised vectors of
the test nodes, trained on 20 nodes per class. At the size of ogbn-arxiv the baseline takes minutes and only runs with
``--full``. Requires the extra ``bench``. Run

    DGL_RBM_DATA=path/to/data python benchmarks/deepwalk.py --out benchmarks/results/deepwalk.json
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import networkx as nx
import numpy as np
import psutil
import torch
from gensim.models import Word2Vec
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timing import write_json
from torch import Tensor

from dgl_rbm.data import NodeTask, load_task
from dgl_rbm.encoders.deepwalk import DeepWalkEncoder, Walks
from dgl_rbm.encoders.spectral import SpectralEncoder
from dgl_rbm.runtime.context import RunContext

WALK_LENGTH, DIM, WINDOW, NEGATIVE = 50, 64, 5, 5
# Nodes, undirected edges, features and classes of ogbn-arxiv.
ARXIV = {
    "kind": "synthetic",
    "num_nodes": 169_343,
    "average_degree": 2 * 1_166_243 / 169_343,
    "num_features": 128,
    "num_classes": 40,
    "split": "20/30",
}
MEBIBYTE = 2**20


def networkx_graph(task: NodeTask) -> nx.Graph:
    """Return the observed graph, undirected and without self-loops."""
    graph = nx.Graph()
    graph.add_nodes_from(range(task.graph.num_nodes()))
    graph.add_edges_from(zip(*(ends.tolist() for ends in task.observed().graph.edges()), strict=True))
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return graph


def baseline(graph: nx.Graph, walks_per_node: int, seed: int) -> tuple[Tensor, float]:
    """Return the vectors of all nodes and the time of the walks in seconds."""
    generator = random.Random(seed)
    start = time.perf_counter()
    walks, nodes = [], [node for node, degree in graph.degree() if degree]
    for _ in range(walks_per_node):
        generator.shuffle(nodes)
        for node in nodes:
            walk = [node]
            while len(walk) < WALK_LENGTH:
                walk.append(generator.choice(list(graph.neighbors(walk[-1]))))
            walks.append([str(node) for node in walk])
    walked = time.perf_counter() - start
    model = Word2Vec(
        walks,
        vector_size=DIM,
        window=WINDOW,
        negative=NEGATIVE,
        sg=1,
        min_count=1,
        sample=0,
        workers=1,
        epochs=1,
        seed=seed,
    )
    vectors = torch.zeros(graph.number_of_nodes(), DIM)
    vectors[torch.from_numpy(np.array(model.wv.index_to_key, dtype=np.int64))] = torch.from_numpy(model.wv.vectors)
    return vectors, walked


def probe_accuracy(vectors: Tensor, task: NodeTask, labels: Tensor) -> float:
    """Return the test accuracy of logistic regression on the vectors, in percent."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(vectors[task.train_idx].numpy(), labels[task.train_idx].numpy())
    return 100 * float(model.score(vectors[task.test_idx].numpy(), labels[task.test_idx].numpy()))


def all_labels(task: NodeTask) -> Tensor:
    """Return the labels of all nodes in the split, int64 ``[N]``; −1 for other nodes."""
    labels = task.observed().labels.clone()
    labels[task.test_idx] = task.test_labels()
    return labels


def measure(
    dataset: Any, walks_per_node: int, seeds: int, with_baseline: Callable[[int], bool]
) -> dict[str, dict[str, list[float]]]:
    """Return times and accuracies of each encoder by seed."""
    found: dict[str, dict[str, list[float]]] = {}

    def record(name: str, start: float, vectors: Tensor, **more: float) -> None:
        measured = {"seconds": time.perf_counter() - start, **more}
        measured["accuracy"] = probe_accuracy(vectors, task, labels)
        for what, value in measured.items():
            found.setdefault(name, {}).setdefault(what, []).append(value)
        print(f"  seed {seed}: {name} {measured['seconds']:.2f} s, {measured['accuracy']:.2f} %", flush=True)

    for seed in range(seeds):
        task = load_task(dataset, seed=seed)
        labels, observed = all_labels(task), task.observed()
        if with_baseline(seed):
            graph = networkx_graph(task)
            start = time.perf_counter()
            vectors, walked = baseline(graph, walks_per_node, seed)
            record("baseline", start, vectors, walk_seconds=walked)
        deepwalk = DeepWalkEncoder(
            dim=DIM,
            walk_length=WALK_LENGTH,
            walks_per_node=walks_per_node,
            window=WINDOW,
            negative=NEGATIVE,
            consistent=False,
        )
        for encoder in (deepwalk, SpectralEncoder(dim=DIM, consistent=False)):
            start = time.perf_counter()
            record(encoder.kind, start, encoder.fit(observed, RunContext(seed=seed)).vectors)
    return found


def walk_memory(walks_per_node: int) -> dict[str, float]:
    """Return the peak memory of sampling all walks on a graph of arxiv's size, and the size of all walks together.

    Call it in a fresh process, so that no memory freed earlier is reused.
    """
    walks = Walks(load_task(ARXIV).observed().graph, WALK_LENGTH, walks_per_node)
    gc.collect()
    if sys.platform == "linux":
        # Return freed memory to the system; reusing it would hide the memory of the walks.
        ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    before = most = process.memory_info().rss
    total = 0
    for batch in walks.batches(seed=0):
        total += batch.numel() * batch.element_size()
        most = max(most, process.memory_info().rss)
    return {"peak_mib": (most - before) / MEBIBYTE, "all_walks_mib": total / MEBIBYTE}


def ratio(found: dict[str, Any], slow: str, fast: str) -> str:
    """Return the median over seeds of the ratio of two encoders' times; a dash if one is missing."""
    if slow not in found:
        return "–"
    pairs = zip(found[slow]["seconds"], found[fast]["seconds"], strict=False)
    return f"{median(a / b for a, b in pairs):.1f}"


def accuracy(found: dict[str, Any], name: str) -> str:
    """Return mean and standard deviation of an encoder's accuracies."""
    if name not in found:
        return "–"
    values = found[name]["accuracy"]
    return f"{mean(values):.2f} ± {stdev(values) if len(values) > 1 else 0.0:.2f}"


def table(results: list[dict[str, Any]]) -> str:
    """Return all results as a Markdown table."""
    lines = [
        "| graph | walks per node | baseline, % | `deepwalk`, % | `spectral`, % | baseline / `deepwalk` "
        "| `deepwalk` / `spectral` |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ways = result["ways"]
        cells = [result["graph"], str(result["walks_per_node"])]
        cells += [accuracy(ways, name) for name in ("baseline", "deepwalk", "spectral")]
        cells += [ratio(ways, "baseline", "deepwalk"), ratio(ways, "deepwalk", "spectral")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--graphs", nargs="+", default=["cora", "amazon-photo", "arxiv-shape"])
    parser.add_argument("--walks-per-node", type=int, nargs="+", default=[5, 10], help="for the small graphs")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of the small graphs")
    parser.add_argument("--large-seeds", type=int, default=3, help="seeds of the graph of arxiv's shape")
    parser.add_argument("--full", action="store_true", help="run the baseline on that graph too, once")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for graph in options.graphs:
        large = graph == "arxiv-shape"
        for walks_per_node in [5] if large else options.walks_per_node:
            print(f"{graph}, {walks_per_node} walks per node", flush=True)
            result: dict[str, Any] = {"graph": graph, "walks_per_node": walks_per_node}
            if large:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    result["walk_memory"] = pool.apply(walk_memory, [walks_per_node])
                print(f"  walks: {result['walk_memory']}", flush=True)
                result["ways"] = measure(ARXIV, 5, options.large_seeds, lambda seed: options.full and seed == 0)
            else:
                result["ways"] = measure(graph, walks_per_node, options.seeds, lambda seed: True)
            results.append(result)
            write_json(options.out, results)
    print(table(results))


if __name__ == "__main__":
    main()
