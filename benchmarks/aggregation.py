"""Aggregation of a GNN layer on a CPU: torch on a `CSCGraph` against DGL's kernels.

If DGL is built for CPUs only, a teacher on a GPU aggregates by torch on a `CSCGraph`. On a CPU the package uses DGL's
kernels; this benchmark measures how much time they save there. It gives no estimate for GPUs, which need a DGL built
for them. For each graph, width and reduction both aggregate the same rows forward and backward in turn, so that
fluctuations of the machine's load affect both alike. Only the ratio is reliable. Run

    OMP_NUM_THREADS=1 python benchmarks/aggregation.py --out benchmarks/results/aggregation.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timing import write_json
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.teachers.csc import CSCGraph
from dgl_rbm.teachers.message_passing import aggregate

REDUCTIONS = ("sum", "mean", "max")


def random_graph(nodes: int, degree: int, seed: int) -> Any:
    """Return a random graph of `nodes` × `degree` edges with skewed out-degrees, as in graphs with hubs."""
    generator = torch.Generator().manual_seed(seed)
    count = nodes * degree
    source = (torch.rand(count, generator=generator) ** 2 * nodes).long()
    destination = torch.randint(nodes, (count,), generator=generator)
    return dgl.graph((source, destination), num_nodes=nodes)


def sampled_block(graph: Any, seeds: int, fanout: int) -> Any:
    """Return the block of `seeds` random nodes with up to `fanout` sampled neighbours each."""
    nodes = torch.randperm(graph.num_nodes())[:seeds]
    return dgl.to_block(dgl.sampling.sample_neighbors(graph, nodes, fanout), nodes)


def seconds(step: Callable[[], object]) -> float:
    """Return the run time of `step` in seconds."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def forward_and_backward(graph: Any, x: Tensor, reduction: str) -> None:
    """Aggregate, and back-propagate a gradient of ones."""
    x.grad = None
    aggregate(graph, x, reduction).sum().backward()  # type: ignore[arg-type]


def compare(graph: Any, width: int, reduction: str, repeats: int) -> dict[str, float]:
    """Return both median times, the median of the pairwise ratio, and the largest difference of the results."""
    x = torch.randn(graph.num_src_nodes(), width, requires_grad=True)
    by_torch = CSCGraph.from_dgl(graph)
    apart = (aggregate(graph, x, reduction) - aggregate(by_torch, x, reduction)).abs().max().detach()  # type: ignore[arg-type]
    # Warm-up: both cache formats and transposes.
    forward_and_backward(graph, x, reduction)
    forward_and_backward(by_torch, x, reduction)
    pairs = [
        tuple(seconds(lambda g=g: forward_and_backward(g, x, reduction)) for g in (graph, by_torch))
        for _ in range(repeats)
    ]
    return {
        "dgl_ms": 1e3 * median(pair[0] for pair in pairs),
        "torch_ms": 1e3 * median(pair[1] for pair in pairs),
        "ratio": median(pair[1] / pair[0] for pair in pairs),
        "largest_difference": float(apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--nodes", type=int, default=50_000, help="nodes of the whole graph")
    parser.add_argument("--degree", type=int, default=15, help="mean in-degree")
    parser.add_argument("--seeds", type=int, default=4096, help="nodes of the sampled block")
    parser.add_argument("--fanout", type=int, default=10, help="sampled neighbours per node")
    parser.add_argument("--widths", type=int, nargs="+", default=(16, 128), help="widths of the rows")
    parser.add_argument("--repeats", type=int, default=9, help="timed pairs")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.manual_seed(0)
    dgl.seed(0)
    graph = random_graph(options.nodes, options.degree, seed=0)
    graphs = {"whole graph": graph, "sampled block": sampled_block(graph, options.seeds, options.fanout)}
    print(f"torch {torch.__version__}, dgl {dgl.__version__}, {torch.get_num_threads()} thread(s)\n")
    print("| graph | edges | columns | reduction | DGL, ms | torch, ms | torch / DGL |\n|---|---|---|---|---|---|---|")
    rows = []
    for name, part in graphs.items():
        for width in options.widths:
            for reduction in REDUCTIONS:
                found = compare(part, width, reduction, options.repeats)
                rows.append(
                    {"graph": name, "edges": part.num_edges(), "columns": width, "reduction": reduction, **found}
                )
                print(
                    f"| {name} | {part.num_edges():,} | {width} | {reduction} | {found['dgl_ms']:.1f} | "
                    f"{found['torch_ms']:.1f} | {found['ratio']:.1f} |",
                    flush=True,
                )
        made = median(seconds(lambda part=part: CSCGraph.from_dgl(part)) for _ in range(options.repeats))
        rows.append({"graph": name, "edges": part.num_edges(), "conversion_ms": 1e3 * made})
        print(f"| {name} | {part.num_edges():,} | | conversion | | {1e3 * made:.1f} | |", flush=True)
    write_json(options.out, rows)


if __name__ == "__main__":
    main()
