"""Placement of a teacher and its graph on devices, and mini-batches of neighbour sampling."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import describe_build, dgl, sampling_thread
from dgl_rbm.data.structure import WEIGHT
from dgl_rbm.data.task import GraphView
from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import Rows, SparseRows, take
from dgl_rbm.teachers.csc import CSCGraph
from dgl_rbm.teachers.message_passing import Aggregation
from dgl_rbm.teachers.traits import ModuleTraits

__all__ = [
    "OrderedNeighborSampler",
    "Placement",
    "SamplingDevice",
    "batches",
    "choose_placement",
    "full_graph_bytes",
    "gather",
    "place",
    "placed",
]

SamplingDevice = Literal["auto", "cpu", "uva", "gpu"]

# By default, a full-graph step may need this much on a CPU, and half of the memory of a GPU.
_FULL_GRAPH_BYTES_ON_CPU = 4 * 2**30
# Float32 values that one layer keeps per node and hidden column for the backward pass: of the projection,
# aggregation, activation and dropout.
_COPIES_PER_LAYER = 4
_GUESSED_HIDDEN_DIM, _GUESSED_NUM_LAYERS = 256, 2


@dataclass(frozen=True)
class Placement:
    """Devices of a module and its graph.

    Attributes
    ----------
    device : torch.device
        Device of the module and the batches: the CPU if neither DGL nor, without DGL's kernels, the module can use
        the requested GPU.
    full_graph_fits : bool
        Whether all nodes can go through the module at once.
    graph_on : {"cpu", "uva", "gpu"}
        Where the graph is sampled: on the CPU, by the GPU from pinned host memory, or on the GPU.
    aggregation : {"dgl", "torch"}
        Library whose kernels aggregate; with torch's, the module gets each graph and block as a `CSCGraph`.
    """

    device: torch.device
    full_graph_fits: bool
    graph_on: Literal["cpu", "uva", "gpu"]
    aggregation: Aggregation = "dgl"


def choose_placement(
    device: torch.device,
    sampling_device: SamplingDevice,
    *,
    dgl_cuda: bool,
    step_bytes: int,
    graph_bytes: int,
    gpu_bytes: int = 0,
    reads_csc: bool = False,
) -> Placement:
    """Return the `Placement` for the given requests and sizes.

    Parameters
    ----------
    device : torch.device
        Requested device of the module.
    sampling_device : {"auto", "cpu", "uva", "gpu"}
        Requested device of the graph; "auto" selects the GPU if the graph and its features fit in half of its memory,
        and reads from host memory by the GPU otherwise.
    dgl_cuda : bool
        Whether DGL was built for CUDA.
    step_bytes, graph_bytes : int
        Estimated memory of one full-graph step, and of the graph with its features.
    gpu_bytes : int
        Total memory of `device`; not the free memory, so that repeated runs get the same placement.
    reads_csc : bool
        Whether the module accepts a `CSCGraph`, and thus runs on a GPU that DGL cannot use.

    Raises
    ------
    ConfigError
        If sampling on the GPU is requested but not possible.
    """
    budget = gpu_bytes // 2
    if device.type != "cuda" or not dgl_cuda:
        if sampling_device in ("uva", "gpu"):
            why = "this DGL is built for CPUs only" if device.type == "cuda" else f"the run is on {device}"
            raise ConfigError(
                f"teacher.training.sampling_device is '{sampling_device}', but {why}.",
                hint="Use sampling_device 'auto', or install DGL built for CUDA and run with device 'cuda'; "
                "`dgl-rbm doctor` lists what is installed.",
            )
        if device.type == "cuda" and reads_csc:
            return Placement(device, step_bytes + graph_bytes <= budget, "cpu", "torch")
        return Placement(torch.device("cpu"), step_bytes <= _FULL_GRAPH_BYTES_ON_CPU, "cpu")
    if sampling_device == "auto":
        sampling_device = "gpu" if graph_bytes <= budget else "uva"
    return Placement(device, step_bytes + graph_bytes <= budget, sampling_device)


def place(
    module: nn.Module, view: GraphView, device: torch.device, sampling_device: SamplingDevice = "auto"
) -> Placement:
    """Return the `Placement` of `module` for the graph `view` on this machine."""
    build = describe_build()
    features = view.features
    stored = features.csr.values().numel() if isinstance(features, SparseRows) else math.prod(features.shape)
    # Both directions of each edge, ids of eight bytes.
    graph_bytes = 32 * view.graph.num_edges() + 4 * stored
    return choose_placement(
        device,
        sampling_device,
        dgl_cuda=build.cuda,
        step_bytes=full_graph_bytes(module, view),
        graph_bytes=graph_bytes,
        gpu_bytes=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0,
        reads_csc=ModuleTraits.of(module).reads_csc,
    )


def full_graph_bytes(module: nn.Module, view: GraphView) -> int:
    """Estimate the memory of one training step on all nodes, in bytes, without the stored features.

    Counts four float32 values per node, layer and hidden column, and one per node and feature if the features are
    dense.
    """
    traits = ModuleTraits.of(module)
    hidden_dim = traits.hidden_dim or _GUESSED_HIDDEN_DIM
    num_layers = traits.num_layers or _GUESSED_NUM_LAYERS
    stays_sparse = isinstance(view.features, SparseRows) and traits.reads_sparse
    columns = _COPIES_PER_LAYER * hidden_dim * num_layers + (0 if stays_sparse else view.features.shape[1])
    return 4 * len(view) * columns


@contextmanager
def placed(graph: Any, placement: Placement) -> Iterator[Any]:
    """Yield the graph on the device of `placement`; memory that DGL pins for sampling is unpinned afterwards."""
    if placement.graph_on == "gpu":
        yield graph.to(placement.device)
        return
    pinned_before = graph.is_pinned()
    try:
        yield graph
    finally:
        if graph.is_pinned() and not pinned_before:
            graph.unpin_memory_()


def gather(features: Rows, ids: Tensor, device: torch.device) -> Rows:
    """Return the rows `ids` on `device`; features and ids may be on any device."""
    return take(features, ids.to(features.device)).to(device)


class OrderedNeighborSampler(dgl.dataloading.NeighborSampler):
    """`dgl.dataloading.NeighborSampler` whose blocks are reproducible.

    DGL numbers the source nodes of a block in several threads, in an order that differs from run to run and that the
    next layer's random choices depend on. Here the seed nodes come first and the others ascend. Neighbours are sampled
    uniformly; blocks contain the weights of their edges.

    Parameters
    ----------
    fanouts : sequence of int
        Neighbours per node and layer, the first layer's first; −1 for all of them.
    annotate : callable, optional
        Called with the graph and each of its blocks; see `LayeredGNN.annotate`.
    """

    def __init__(self, fanouts: Sequence[int], annotate: Callable[[Any, Any], None] | None = None) -> None:
        super().__init__(list(fanouts))
        self.annotate = annotate

    def sample_blocks(self, g: Any, seed_nodes: Tensor, exclude_eids: Any = None) -> tuple[Tensor, Tensor, list[Any]]:
        """Return the input nodes, the seed nodes, and one block per layer."""
        nodes = seed_nodes
        blocks: list[Any] = []
        for fanout in reversed(self.fanouts):
            frontier = g.sample_neighbors(nodes, fanout, exclude_edges=exclude_eids)
            block = _ordered_block(frontier, nodes)
            if self.annotate is not None:
                self.annotate(g, block)
            nodes = block.srcdata[dgl.NID]
            blocks.insert(0, block)
        return nodes, seed_nodes, blocks


def _ordered_block(frontier: Any, seeds: Tensor) -> Any:
    block = dgl.to_block(frontier, seeds)
    nodes, count = block.srcdata[dgl.NID], len(seeds)
    # `to_block` accepts an order in `src_nodes`, but then returns a block without source nodes (DGL 2.1).
    order = torch.cat([torch.arange(count, device=nodes.device), count + nodes[count:].argsort()])
    place_of = torch.empty_like(order)
    place_of[order] = torch.arange(len(order), device=order.device)
    source, destination = block.edges()
    ordered = dgl.create_block(
        (place_of[source], destination), num_src_nodes=len(order), num_dst_nodes=count, device=block.device
    )
    ordered.srcdata[dgl.NID] = nodes[order]
    ordered.dstdata[dgl.NID] = seeds
    ordered.edata[dgl.EID] = frontier.edata[dgl.EID]
    if WEIGHT in frontier.edata:
        ordered.edata[WEIGHT] = frontier.edata[WEIGHT]
    return ordered


def batches(
    graph: Any,
    seeds: Tensor,
    sampler: OrderedNeighborSampler,
    placement: Placement,
    *,
    batch_size: int,
    num_workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor, list[Any]]]:
    """Sample the neighbourhoods of `seeds`, batch by batch in the given order.

    Yields
    ------
    input_nodes : Tensor
        Source nodes of the first block, int64.
    output_nodes : Tensor
        The batch of `seeds`, int64 ``[<= batch_size]``.
    blocks : list of dgl.DGLGraph or CSCGraph
        One per layer, on the placement's device.
    """
    on_cpu = placement.graph_on == "cpu"
    by_torch = placement.aggregation == "torch"
    loader = dgl.dataloading.DataLoader(
        graph,
        seeds if on_cpu else seeds.to(placement.device),
        sampler,
        # A DGL that is built for CPUs cannot move blocks to a GPU.
        device=torch.device("cpu") if by_torch else placement.device,
        use_uva=placement.graph_on == "uva",
        batch_size=batch_size,
        # DGL samples on a GPU in the main process only.
        num_workers=num_workers if on_cpu else 0,
        worker_init_fn=_seed_worker,
    )
    with warnings.catch_warnings():
        # DGL recommends in every epoch to bind the process to cores.
        warnings.filterwarnings("ignore", "Dataloader CPU affinity")
        # Without a choice of neighbours, the order of the threads that sample is not visible.
        random = on_cpu and any(fanout != -1 for fanout in sampler.fanouts)
        iterator = sampling_thread.iterate(loader) if random else iter(loader)
    for inputs, outputs, blocks in iterator:
        if by_torch:
            blocks = [CSCGraph.from_dgl(block, device=placement.device) for block in blocks]
        yield inputs, outputs, blocks


def _seed_worker(worker: int) -> None:
    dgl.seed(torch.initial_seed() % 2**31)
