"""Layer-wise inference for all nodes from full neighbourhoods, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.structure import WEIGHT, row_windows
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.process_state import inference
from dgl_rbm.teachers.base import TeacherOutput
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.message_passing import laid_out
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement, batches, gather, placed

__all__ = ["full_neighborhoods", "layerwise_output"]

_NODES_AT_ONCE = 4096
# Float32 values of a layer's inputs that are gathered at once (128 MiB).
_VALUES_AT_ONCE = 2**25


@inference
def layerwise_output(
    module: LayeredGNN,
    graph: Any,
    features: Rows,
    placement: Placement,
    *,
    return_hidden: bool = True,
    nodes_at_once: int = _NODES_AT_ONCE,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> TeacherOutput:
    """Compute the result of `full_graph_output` one layer at a time, over batches of nodes.

    Each batch needs only its nodes and their direct neighbours, however deep the module is. One layer's inputs and
    outputs are kept on the CPU.

    Parameters
    ----------
    module : LayeredGNN
    graph : dgl.DGLGraph
        Of N nodes.
    features : Tensor or SparseRows
        float32 ``[N, F]``; a memory-mapped tensor is read row by row.
    placement : Placement
        Devices of module and graph.
    return_hidden : bool
        Whether to keep the inputs of the last layer.
    nodes_at_once : int
        Maximum number of nodes per batch.
    report : callable
        Called after every batch with the rows done and their total, summed over all layers.
    """
    module.eval()
    x, count = features, graph.num_nodes()
    hidden: Rows | None = None
    with placed(graph, placement) as graph:
        for depth in range(module.num_layers):
            hidden = x if depth and return_hidden else None
            rows = x
            outputs: Tensor | None = None
            done = 0
            for inputs, block in _batches(module, graph, rows.shape[1], placement, nodes_at_once):
                part = module.propagate(depth, block, gather(rows, inputs, placement.device)).cpu()
                if outputs is None:
                    outputs = part.new_empty(count, part.shape[1])
                outputs[done : done + len(part)] = part
                done += len(part)
                report(depth * count + done, module.num_layers * count)
            assert outputs is not None, "a graph has nodes"
            x = outputs
    return TeacherOutput(x, hidden)  # type: ignore[arg-type]


def _batches(
    module: LayeredGNN, graph: Any, columns: int, placement: Placement, nodes_at_once: int
) -> Iterator[tuple[Tensor, Any]]:
    if placement.graph_on == "cpu":
        edges_at_once = max(nodes_at_once, _VALUES_AT_ONCE // max(1, columns))
        for inputs, block in full_neighborhoods(graph, nodes_at_once, edges_at_once, module.annotate):
            yield inputs, laid_out(block, placement.device, placement.aggregation)
        return
    sampler = OrderedNeighborSampler([-1], module.annotate)
    nodes = torch.arange(graph.num_nodes())
    for inputs, _, (block,) in batches(graph, nodes, sampler, placement, batch_size=nodes_at_once):
        yield inputs, block


def full_neighborhoods(
    graph: Any, nodes_at_once: int, edges_at_once: int, annotate: Callable[[Any, Any], None] | None = None
) -> Iterator[tuple[Tensor, Any]]:
    """Cut a graph into blocks of consecutive nodes with all of their in-edges.

    The blocks are those of a sampler that takes all neighbours, read directly from the compressed graph.

    Parameters
    ----------
    graph : dgl.DGLGraph
        On the CPU.
    nodes_at_once, edges_at_once : int
        Maximum per block; a node with more edges gets a block of its own.
    annotate : callable, optional
        Called with the graph and each of its blocks; see `LayeredGNN.annotate`.

    Yields
    ------
    inputs : Tensor
        The block's source nodes, int64: first its destination nodes, then their other neighbours, ascending.
    block : dgl.DGLGraph
    """
    pointers, sources, edge_ids = (part.numpy() for part in graph.adj_tensors("csc"))
    weights = graph.edata.get(WEIGHT)
    if weights is not None and len(edge_ids):
        weights = weights[torch.from_numpy(edge_ids)]
    place = np.empty(graph.num_nodes(), dtype=sources.dtype)
    for start, stop in row_windows(pointers, edges_at_once):
        for first in range(start, stop, nodes_at_once):
            last = min(first + nodes_at_once, stop)
            near = sources[pointers[first] : pointers[last]]
            # Not `np.unique`: newer versions hash, which takes ten times longer here.
            distinct = np.sort(near)
            distinct = distinct[np.concatenate([[True], distinct[1:] != distinct[:-1]])[: len(near)]]
            low, high = np.searchsorted(distinct, [first, last])
            seeds = np.arange(first, last, dtype=near.dtype)
            inputs = np.concatenate([seeds, distinct[:low], distinct[high:]])
            place[inputs] = np.arange(len(inputs), dtype=near.dtype)
            # As in `from_compressed`, explicit edge ids are for the kernels that read weights.
            ids_of_edges = near[:0] if weights is None else np.arange(len(near), dtype=near.dtype)
            edges = (pointers[first : last + 1] - pointers[first], place[near], ids_of_edges)
            block = dgl.create_block(
                ("csc", tuple(map(torch.from_numpy, edges))), num_src_nodes=len(inputs), num_dst_nodes=len(seeds)
            )
            ids = torch.from_numpy(inputs)
            block.srcdata[dgl.NID], block.dstdata[dgl.NID] = ids, ids[: len(seeds)]
            if weights is not None:
                block.edata[WEIGHT] = weights[pointers[first] : pointers[last]]
            if annotate is not None:
                annotate(graph, block)
            yield ids.long(), block
