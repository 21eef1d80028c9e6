"""k-means of scikit-learn and of `dgl_rbm.students.layers.lloyd`, at the sizes that initialise expert memories.

    OMP_NUM_THREADS=1 DGL_RBM_DATA=path/to/data python benchmarks/kmeans.py
    DGL_RBM_DATA=path/to/data python benchmarks/kmeans.py --device cuda

Rows on a GPU are clustered there by `lloyd_centres`, rows on the CPU by scikit-learn. With ``--device cuda``, the times
of scikit-learn include the copy of the rows to the CPU, which it would need. Rows are 20,000 hidden states of 128
columns, and the bags of words of cpf-cora if ``DGL_RBM_DATA`` is set. Both are scaled to length one, with three
initialisations of at most 100 iterations each. Inertias are sums of squared distances to the nearest centre, relative
to scikit-learn's.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from timing import alternate, write_json
from torch import Tensor
from torch.nn.functional import normalize

from dgl_rbm.data.load import load_task
from dgl_rbm.rows.sparse import Rows, norms, take
from dgl_rbm.students.layers.kmeans import kmeans_centres
from dgl_rbm.students.layers.lloyd import lloyd_centres


def inputs() -> Iterator[tuple[str, Rows]]:
    """Yield the rows to cluster by name, without rows of zeros."""
    torch.manual_seed(0)
    centres = torch.randn(7, 128)
    yield "hidden states", (centres[torch.randint(7, (20_000,))] + torch.randn(20_000, 128)).relu()
    if "DGL_RBM_DATA" in os.environ:
        features = load_task("cpf-cora").features
        yield "cpf-cora", take(features, norms(features).gt(0).nonzero().squeeze(1))


def inertia(rows: Rows, centres: Tensor) -> float:
    """Return the sum of squared distances of the rows, scaled to length one, to the nearest centre."""
    dense = normalize(rows if isinstance(rows, Tensor) else rows.to_dense())
    return float(torch.cdist(dense, centres).min(dim=1).values.square().sum())


def compare(rows: Rows, count: int, device: str, repeats: int) -> dict[str, float]:
    """Return median seconds, the ratio of the times, and the ratio of the mean inertias."""
    x, rng = rows.to(device), np.random.default_rng(0)
    torch.manual_seed(0)
    centres: dict[str, list[Tensor]] = {"scikit-learn": [], "lloyd": []}
    contenders = {
        "scikit-learn": lambda: centres["scikit-learn"].append(kmeans_centres(x.to("cpu"), count)),
        "lloyd": lambda: centres["lloyd"].append(lloyd_centres(x, count, rng).cpu()),
    }
    timing = alternate(contenders, repeats, warmup=1)
    means = {name: fmean(inertia(rows, found) for found in all_found) for name, all_found in centres.items()}
    ratios = {"time": timing.ratio("lloyd", "scikit-learn"), "inertia": means["lloyd"] / means["scikit-learn"]}
    return {**timing, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--clusters", type=int, nargs="+", default=(3, 5, 8), help="E")
    parser.add_argument("--repeats", type=int, default=9, help="timed repeats, each with new initialisations")
    parser.add_argument("--device", default="cpu", help="of the rows: cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    print("| rows | E | scikit-learn | lloyd | lloyd / scikit-learn | inertia |\n|---|---|---|---|---|---|")
    results = []
    for name, rows in inputs():
        for count in options.clusters:
            found = compare(rows, count, options.device, options.repeats)
            results.append({"rows": name, "clusters": count, "device": options.device, **found})
            print(
                f"| {name}, {rows.shape[0]:,} × {rows.shape[1]:,} | {count} | {1e3 * found['scikit-learn']:.0f} ms "
                f"| {1e3 * found['lloyd']:.0f} ms | {found['time']:.2f} | {found['inertia']:.4f} |",
                flush=True,
            )
    write_json(options.out, results)


if __name__ == "__main__":
    main()
