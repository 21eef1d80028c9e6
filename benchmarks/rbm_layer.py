"""Time of an RbM layer relative to its lower bound, k dense matrix products of the same shapes.

    python benchmarks/rbm_layer.py --out benchmarks/results/rbm_layer.json

The floor is k products ``x @ W`` of all B rows, each with its own weights ``[F, N]``, without routing, sum or bias. The
layer routes by memory, passes each row through k of E experts, scales their inputs by the input attention and the
output by the output scale, and sums (RbM paper, eqs. 3 and 5). The backward pass computes the gradients of the rows and
of all weights. The loop is a reference implementation that gathers the rows of each expert, multiplies, and adds the
results with `index_add`; autograd computes its gradients.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import alternate, write_json
from torch import Tensor

from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.mixture import MixtureLayer
from dgl_rbm.students.layers.routing import MemoryRouter


def mix_by_loop(layer: MixtureLayer, x: Tensor) -> Tensor:
    """Return the layer's output computed by a loop over experts."""
    experts, gates = layer.experts, layer.router(x).gates.detach()
    mixed = torch.zeros(len(x), experts.bias.shape[1])
    for e, gate in enumerate(gates.unbind(dim=1)):
        rows = gate.nonzero().squeeze(1)
        inputs = x[rows] * experts.attention[e].exp()
        mixed = mixed.index_add(0, rows, torch.addmm(experts.bias[e], inputs, experts.weights[e]) * gate[rows, None])
    return mixed * experts.scale.exp()


def contenders(rows: int, width: int, experts: int, top_k: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return the functions to time, by pass and name."""
    torch.manual_seed(0)
    x = torch.randn(rows, width, requires_grad=True)
    packed = PackedExperts(experts, width, width, input_attention=True, output_scale=True)
    layer = MixtureLayer(MemoryRouter(width, experts, top_k), packed, dropout=0.0, stop_gate_gradient=True)
    weights = [torch.randn(width, width, requires_grad=True) for _ in range(top_k)]
    upstream = torch.randn(rows, width)
    parameters = list(packed.parameters())
    by_pass = {
        "floor": (lambda: [x @ w for w in weights], [x, *weights], [upstream] * top_k),
        "layer": (lambda: [layer(x)[0]], [x, *parameters], [upstream]),
        "loop": (lambda: [mix_by_loop(layer, x)], [x, *parameters], [upstream]),
    }

    def forward(run: Callable[[], Any]) -> Callable[[], Any]:
        def timed() -> None:
            with torch.no_grad():
                run()

        return timed

    def both(run: Callable[[], Any], leaves: list[Tensor], gradients: list[Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(run(), leaves, gradients)

    return {
        "forward": {name: forward(parts[0]) for name, parts in by_pass.items()},
        "forward + backward": {name: both(*parts) for name, parts in by_pass.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=(1, 64, 4096, 65_536), help="B")
    parser.add_argument("--widths", type=int, nargs="+", default=(128, 256, 1024), help="F = N")
    parser.add_argument("--experts", type=int, default=8, help="E")
    parser.add_argument("--top-k", type=int, default=3, help="k")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds; 20 times as many below 4,096 rows")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    print("| B | F = N | pass | floor | layer | layer / floor | loop / floor |\n|---|---|---|---|---|---|---|")
    results = []
    for width in options.widths:
        for rows in options.rows:
            for name, functions in contenders(rows, width, options.experts, options.top_k).items():
                repeats = options.repeats if rows * width <= 2**24 else 3
                timing = alternate(functions, repeats if rows >= 4096 else 20 * repeats)
                ours, loop = timing.ratio("layer", "floor"), timing.ratio("loop", "floor")
                results.append(
                    {"rows": rows, "width": width, "pass": name, "seconds": dict(timing), "layer": ours, "loop": loop}
                )
                print(
                    f"| {rows:,} | {width} | {name} | {1e3 * timing['floor']:.3g} ms | {1e3 * timing['layer']:.3g} ms "
                    f"| {ours:.2f} | {loop:.2f} |",
                    flush=True,
                )
                write_json(options.out, results)


if __name__ == "__main__":
    main()
