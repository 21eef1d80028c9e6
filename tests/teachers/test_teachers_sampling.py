"""Placement of teachers and mini-batches of neighbour sampling."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dgl_rbm.data.dgl_compat import dgl, sampling_thread
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.sage import SAGE
from dgl_rbm.teachers.sampling import (
    OrderedNeighborSampler,
    Placement,
    batches,
    choose_placement,
    full_graph_bytes,
    place,
    placed,
)

GIB = 2**30
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ON_CPU = Placement(CPU, full_graph_fits=True, graph_on="cpu")


@pytest.mark.parametrize(
    ("device", "asked", "dgl_cuda", "step", "graph", "free", "expected"),
    [
        (CPU, "auto", False, GIB, GIB, 0, Placement(CPU, True, "cpu")),
        (CPU, "cpu", False, 5 * GIB, GIB, 0, Placement(CPU, False, "cpu")),
        (CUDA, "auto", False, GIB, GIB, 0, ON_CPU),
        (torch.device("mps"), "auto", False, GIB, GIB, 0, ON_CPU),
        (CUDA, "auto", True, GIB, GIB, 8 * GIB, Placement(CUDA, True, "gpu")),
        (CUDA, "auto", True, 4 * GIB, GIB, 8 * GIB, Placement(CUDA, False, "gpu")),
        (CUDA, "auto", True, GIB, 5 * GIB, 8 * GIB, Placement(CUDA, False, "uva")),
        (CUDA, "uva", True, GIB, GIB, 8 * GIB, Placement(CUDA, True, "uva")),
        (CUDA, "cpu", True, GIB, GIB, 8 * GIB, Placement(CUDA, True, "cpu")),
        (CUDA, "gpu", True, GIB, 5 * GIB, 8 * GIB, Placement(CUDA, False, "gpu")),
    ],
)
def test_choose_placement(
    device: torch.device,
    asked: str,
    dgl_cuda: bool,
    step: int,
    graph: int,
    free: int,
    expected: Placement,
) -> None:
    chosen = choose_placement(device, asked, dgl_cuda=dgl_cuda, step_bytes=step, graph_bytes=graph, gpu_bytes=free)
    assert chosen == expected


@pytest.mark.parametrize(
    ("step", "graph", "asked", "fits"),
    [(GIB, GIB, "auto", True), (4 * GIB, GIB, "auto", False), (GIB, GIB, "cpu", True), (GIB, 5 * GIB, "cpu", False)],
)
def test_a_module_that_needs_no_kernels_of_dgls_takes_the_gpu(step: int, graph: int, asked: str, fits: bool) -> None:
    sizes = {"step_bytes": step, "graph_bytes": graph, "gpu_bytes": 8 * GIB}
    chosen = choose_placement(CUDA, asked, dgl_cuda=False, reads_csc=True, **sizes)
    assert chosen == Placement(CUDA, fits, "cpu", "torch")
    # Where DGL has kernels they are taken, and a CPU stays one.
    assert choose_placement(CUDA, asked, dgl_cuda=True, reads_csc=True, **sizes).aggregation == "dgl"
    assert choose_placement(CPU, asked, dgl_cuda=False, reads_csc=True, **sizes).aggregation == "dgl"
    with pytest.raises(ConfigError, match="built for CPUs only"):
        choose_placement(CUDA, "uva", dgl_cuda=False, reads_csc=True, **sizes)


def test_what_a_module_reads_decides_on_its_place(observed: ObservedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=8 * GIB))
    assert place(SAGE(6, 2), observed, CUDA) == Placement(CUDA, True, "cpu", "torch")
    own = LayeredGNN([dgl.nn.SAGEConv(6, 2, "mean")], hidden_dim=2)
    assert place(own, observed, CUDA) == place(torch.nn.Linear(6, 2), observed, CUDA) == ON_CPU


@pytest.mark.parametrize(("device", "why"), [(CPU, "the run is on cpu"), (CUDA, "built for CPUs only")])
@pytest.mark.parametrize("asked", ["uva", "gpu"])
def test_sampling_on_a_gpu_that_cannot_be_used_is_refused(device: torch.device, why: str, asked: str) -> None:
    with pytest.raises(ConfigError, match=f"'{asked}', but .*{why}"):
        choose_placement(device, asked, dgl_cuda=False, step_bytes=1, graph_bytes=1)


def test_full_graph_bytes_counts_dense_features_and_hidden_copies(observed: ObservedGraph) -> None:
    module = SAGE(6, 2, hidden_dim=10, num_layers=2)
    assert full_graph_bytes(module, observed) == 4 * 60 * (4 * 10 * 2 + 6)
    assert full_graph_bytes(torch.nn.Linear(6, 2), observed) == 4 * 60 * (4 * 256 * 2 + 6)
    assert place(module, observed, CPU) == ON_CPU


def test_batches_cover_the_seeds_in_order_and_leave_no_trace(observed: ObservedGraph) -> None:
    graph, seeds = observed.graph, torch.randperm(60)[:25]
    sampler = OrderedNeighborSampler([3, 2])
    found = list(batches(graph, seeds, sampler, ON_CPU, batch_size=10))
    assert torch.equal(torch.cat([outputs for _, outputs, _ in found]), seeds)
    assert [len(outputs) for _, outputs, _ in found] == [10, 10, 5]
    assert not graph.ndata
    assert not graph.edata


def test_blocks_hold_edges_of_the_graph_in_a_fixed_order(observed: ObservedGraph) -> None:
    graph, seeds = observed.graph, torch.tensor([40, 2, 59, 7])
    inputs, outputs, blocks = OrderedNeighborSampler([-1, 2]).sample_blocks(graph, seeds)
    assert torch.equal(outputs, seeds)
    assert torch.equal(inputs, blocks[0].srcdata[dgl.NID])
    assert torch.equal(blocks[0].dstdata[dgl.NID], blocks[1].srcdata[dgl.NID])
    assert torch.equal(blocks[1].dstdata[dgl.NID], seeds)
    for block, fanout in zip(blocks, [None, 2], strict=True):
        nodes, count = block.srcdata[dgl.NID], block.num_dst_nodes()
        assert torch.equal(nodes[:count], block.dstdata[dgl.NID])
        assert torch.equal(nodes[count:], nodes[count:].sort().values)
        assert len(nodes.unique()) == len(nodes)
        source, destination = graph.find_edges(block.edata[dgl.EID])
        assert torch.equal(nodes[block.edges()[0]], source)
        assert torch.equal(nodes[block.edges()[1]], destination)
        degrees = graph.in_degrees(block.dstdata[dgl.NID])
        assert torch.equal(block.in_degrees(), degrees if fanout is None else degrees.clamp(max=fanout))


def test_the_same_seed_samples_the_same_blocks(observed: ObservedGraph) -> None:
    def draw(seed: int) -> list[torch.Tensor]:
        sampling_thread.seed(seed)
        found = batches(observed.graph, torch.arange(60), OrderedNeighborSampler([2, 2]), ON_CPU, batch_size=20)
        return [part for inputs, _, blocks in found for part in (inputs, *blocks[0].edges())]

    first, second, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_annotate_sees_the_graph_and_every_block(observed: ObservedGraph) -> None:
    seen = []
    sampler = OrderedNeighborSampler([1, 1], lambda graph, block: seen.append((graph, block)))
    _, _, blocks = sampler.sample_blocks(observed.graph, torch.arange(5))
    assert [block for _, block in seen] == blocks[::-1]
    assert all(graph is observed.graph for graph, _ in seen)


class FakeGraph:
    """What `placed` uses of a graph; pinning needs a GPU."""

    def __init__(self, pinned: bool) -> None:
        self.pinned, self.moved_to = pinned, None

    def is_pinned(self) -> bool:
        return self.pinned

    def unpin_memory_(self) -> None:
        self.pinned = False

    def to(self, device: torch.device) -> FakeGraph:
        moved = FakeGraph(self.pinned)
        moved.moved_to = device
        return moved


@pytest.mark.parametrize("before", [False, True])
def test_memory_is_as_pinned_after_sampling_as_before(before: bool) -> None:
    graph = FakeGraph(before)

    def sample_and_fail() -> None:
        with placed(graph, Placement(CUDA, False, "uva")) as given:
            assert given is graph
            graph.pinned = True
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_and_fail()
    assert graph.pinned is before


def test_a_graph_that_fits_is_moved_to_the_gpu() -> None:
    with placed(FakeGraph(False), Placement(CUDA, True, "gpu")) as given:
        assert given.moved_to == CUDA


def test_sparse_features_cost_a_step_nothing_where_the_module_reads_them() -> None:
    graph = dgl.graph(([0], [1]), num_nodes=2)
    rows = as_rows(torch.eye(2).to_sparse_csr())
    view = ObservedGraph(graph, rows, torch.arange(2), torch.zeros(2).long(), torch.tensor([0]), torch.tensor([1]), 2)
    assert full_graph_bytes(SAGE(2, 2, hidden_dim=1, num_layers=1), view) == 4 * 2 * 4
    assert full_graph_bytes(torch.nn.Linear(2, 2), view) == 4 * 2 * (4 * 256 * 2 + 2)
