"""Tasks from a user's graph: accepted and refused inputs, messages, and the absence of leaks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from dgl_rbm.data import make_task, task_from_graph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ConfigError, DataError, DatasetNotFoundError
from dgl_rbm.rows.sparse import SparseRows

N = 12
LABELS = torch.arange(N) % 3
PARTS = {"train": torch.arange(0, 4), "val": torch.arange(4, 7), "test": torch.arange(7, N)}


def ring(num_nodes=N):
    nodes = torch.arange(num_nodes)
    return dgl.graph((nodes, (nodes + 1) % num_nodes), num_nodes=num_nodes)


def features(columns=3):
    return torch.rand(N, columns, generator=torch.Generator().manual_seed(0))


def mask(ids):
    chosen = torch.zeros(N, dtype=torch.bool)
    chosen[ids] = True
    return chosen


def user_graph():
    g = ring()
    g.ndata["feat"] = features()
    g.ndata["label"] = LABELS.clone()
    for part, ids in PARTS.items():
        g.ndata[f"{part}_mask"] = mask(ids)
    return g


def make(graph=None, **changes):
    return make_task(
        ring() if graph is None else graph, **({"features": features(), "labels": LABELS, **PARTS} | changes)
    )


def refusal(call, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def assert_same_observed(first, second):
    a, b = first.observed(), second.observed()
    for one, other in zip(a.graph.edges(order="eid"), b.graph.edges(order="eid"), strict=True):
        assert one.equal(other)
    assert a.graph.num_nodes() == b.graph.num_nodes()
    assert type(a.features) is type(b.features)
    dense = [view.features.to_dense() for view in (a, b)]
    assert dense[0].equal(dense[1])
    for name in ("node_ids", "labels", "train_idx", "val_idx"):
        assert getattr(a, name).equal(getattr(b, name)), name
    assert a.num_classes == b.num_classes


def test_a_graph_with_fields():
    g = user_graph()
    task = task_from_graph(g)
    assert (task.setting, task.num_classes, len(task.unseen_idx)) == ("transductive", 3, 0)
    assert task.train_idx.equal(PARTS["train"])
    assert task.val_idx.equal(PARTS["val"])
    assert task.test_idx.equal(PARTS["test"])
    assert task.features.equal(g.ndata["feat"])
    assert task.test_labels().equal(LABELS[7:])
    assert not task.graph.ndata
    assert not task.graph.edata
    assert set(g.ndata) == {"feat", "label", "train_mask", "val_mask", "test_mask"}


def test_arrays_of_the_other_byte_order():
    parts = {part: ids.numpy().astype(">i4") for part, ids in PARTS.items()}
    task = make(features=features().numpy().astype(">f8"), labels=LABELS.numpy().astype(">i8"), **parts)
    assert task.features.equal(features())
    assert task.test_labels().equal(LABELS[7:])
    assert task.train_idx.equal(PARTS["train"])


def test_features_in_a_file_stay_on_disk(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, features().numpy())
    for name in (path, str(path)):
        task = make(features=name)
        assert task.features.equal(features())
        before = path.read_bytes()
        task.features.mul_(2)
        assert path.read_bytes() == before
    task = make(features=path)
    on_disk = np.load(path, mmap_mode="r+")
    on_disk[3] = 77.0
    on_disk.flush()
    assert task.features[3].tolist() == [77.0] * 3, "the features were copied into memory"
    with pytest.raises(DatasetNotFoundError, match="no features file"):
        make(features=tmp_path / "y.npy")


def test_other_field_names():
    g = user_graph()
    for old, new in (("feat", "x"), ("label", "y"), ("train_mask", "tr"), ("val_mask", "va"), ("test_mask", "te")):
        g.ndata[new] = g.ndata.pop(old)
    task = task_from_graph(g, features="x", labels="y", train_mask="tr", val_mask="va", test_mask="te")
    assert task.train_idx.equal(PARTS["train"])


def test_the_structure_is_kept():
    g = dgl.graph(([0, 0, 1, 2, 2], [1, 1, 0, 2, 3]), num_nodes=N).int()
    g.edata["distance"] = torch.rand(5)
    kept = make(g).graph
    assert kept.idtype == torch.int64
    assert sorted(zip(*(ends.tolist() for ends in kept.edges()), strict=True)) == [
        (0, 1),
        (0, 1),
        (1, 0),
        (2, 2),
        (2, 3),
    ]
    assert not kept.edata
    assert kept.num_nodes() == N


def test_symmetrize_adds_reverse_edges_once():
    g = dgl.graph(([0, 0, 1, 2, 2], [1, 1, 0, 2, 3]), num_nodes=N)
    both = make(g, symmetrize=True).graph
    assert sorted(zip(*(ends.tolist() for ends in both.edges()), strict=True)) == [
        (0, 1),
        (1, 0),
        (2, 2),
        (2, 3),
        (3, 2),
    ]
    assert both.num_nodes() == N


def test_a_graph_without_edges():
    g = dgl.graph(([], []), num_nodes=N)
    task = make(g, setting="inductive")
    assert task.observed().graph.num_edges() == 0
    assert make(g, symmetrize=True).graph.num_nodes() == N


@pytest.mark.parametrize(
    "form",
    [
        lambda ids: ids,
        lambda ids: ids.flip(0),
        lambda ids: ids.tolist(),
        lambda ids: ids.numpy().astype("int32"),
        mask,
        lambda ids: mask(ids).numpy(),
        lambda ids: mask(ids).to(torch.uint8),
        lambda ids: mask(ids).long(),
        lambda ids: mask(ids).tolist(),
    ],
)
def test_forms_of_masks(form):
    task = make(**{part: form(ids) for part, ids in PARTS.items()})
    assert task.train_idx.equal(PARTS["train"])
    assert task.val_idx.equal(PARTS["val"])
    assert task.test_idx.equal(PARTS["test"])


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.int(),
        LABELS.tolist(),
        LABELS.numpy().astype("uint16"),
        LABELS[:, None],
        LABELS.float(),
    ],
)
def test_forms_of_labels(labels):
    task = make(labels=labels)
    assert task.test_labels().equal(LABELS[7:])
    assert task.test_labels().dtype == torch.int64


def test_nodes_without_label():
    for missing, dtype in ((-1, torch.int64), (float("nan"), torch.float64)):
        labels = LABELS.clone().to(dtype)
        labels[[3, 11]] = missing
        task = make(labels=labels, train=[0, 1, 2], test=[7, 8, 9, 10])
        assert task.observed().labels.tolist() == [0, 1, 2, -1, 1, 2, 0] + [-1] * 5
        drawn = make_task(ring(), features=features(), labels=labels, split="0.4/0.3/0.3")
        assert not {3, 11} & {*drawn.train_idx.tolist(), *drawn.val_idx.tolist(), *drawn.test_idx.tolist()}


def test_the_users_arrays_are_not_changed_and_labels_are_copied():
    labels, kept = LABELS.clone(), LABELS.clone()
    task = make(labels=labels)
    task.observed()
    assert labels.equal(kept)
    labels[:] = 0
    assert task.test_labels().equal(kept[7:])


def test_forms_of_features():
    dense = (features(40) > 0.9).float()
    expected = dense / dense.sum(1, keepdim=True).clamp(min=1)
    for form in (dense, dense.bool(), dense.int().numpy(), sp.csc_matrix(dense.numpy()), dense.to_sparse()):
        rows = make(features=form, normalize="row").features
        torch.testing.assert_close(rows.to_dense(), expected)


def test_layout_follows_density():
    thin = torch.zeros(N, 50)
    thin[:, 0] = 1
    assert isinstance(make(features=thin).features, SparseRows)
    assert isinstance(make(features=sp.csr_matrix(thin.numpy())).features, SparseRows)
    assert isinstance(make(features=sp.csr_matrix(features().numpy())).features, torch.Tensor)
    assert isinstance(make(features=thin + 1, normalize="standard").features, SparseRows)
    assert make(features=thin).features.to_dense().equal(thin)


def test_features_that_require_gradients_are_detached():
    assert not make(features=features().requires_grad_()).features.requires_grad


class TestRefusals:
    def test_not_a_graph(self):
        message = refusal(make_task, "cora", features=features(), labels=LABELS, **PARTS)
        assert "the graph is a str, not a dgl.DGLGraph" in message

    @pytest.mark.parametrize(
        "edges",
        [
            {("user", "buys", "item"): ([0], [1])},
            {("user", "likes", "user"): ([0], [1]), ("user", "knows", "user"): ([0], [1])},
        ],
    )
    def test_heterogeneous(self, edges):
        g = dgl.heterograph(edges)
        message = refusal(task_from_graph, g)
        assert "heterogeneous" in message
        assert "reasons" not in message
        assert "dgl.to_homogeneous" in message

    def test_block_and_empty_graph(self):
        assert "heterogeneous" in refusal(make, dgl.to_block(ring(), torch.arange(3)))
        assert "has no nodes" in refusal(task_from_graph, dgl.graph(([], [])))

    def test_all_missing_fields_are_named(self):
        g = ring()
        g.ndata["feats"] = features()
        g.ndata["label"] = LABELS
        message = refusal(task_from_graph, g)
        assert "no node field 'feat' for the features. Did you mean 'feats'?" in message
        assert "The graph has: feats, label." in message
        for field in ("train_mask", "val_mask", "test_mask"):
            assert f"'{field}'" in message
        assert "give a split such as '20/30'" in message
        assert "'label' for" not in message

    def test_a_missing_field_is_reported_with_other_problems(self):
        g = user_graph()
        del g.ndata["val_mask"]
        g.ndata["feat"][5, 1] = float("nan")
        g.ndata["label"][10] = -4
        g.ndata["train_mask"][8] = True
        message = refusal(task_from_graph, g)
        assert "for 4 reasons" in message
        assert "no node field 'val_mask'" in message
        assert "features of node 5 are NaN or infinite" in message
        assert "the labels of node 10 are below −1" in message
        assert "the training and the test nodes overlap in node 8" in message

    def test_features(self):
        bad = features()
        bad[[2, 9], 0] = torch.tensor([float("nan"), float("-inf")])
        assert "features of nodes 2, 9 are NaN" in refusal(make, features=bad)
        assert "features of nodes 2, 9 are NaN" in refusal(make, features=sp.csr_matrix(bad.numpy()))
        many = torch.full((N, 2), float("nan"))
        assert "nodes 0, 1, 2, 3, 4 and 7 more" in refusal(make, features=many)
        assert "infinite (as float32)" in refusal(make, features=features().double() * 1e300)
        assert "complex" in refusal(make, features=features().to(torch.complex64))
        assert "complex" in refusal(make, features=sp.csr_matrix(features().numpy() * 1j))
        assert "11 rows; the graph has 12 nodes" in refusal(make, features=features()[:11])
        assert "shape (12,)" in refusal(make, features=features()[:, 0])
        assert "no columns" in refusal(make, features=torch.zeros(N, 0))
        assert "column 0, row 0: 'a' is not a number" in refusal(make, features=np.array([["a"]] * N))
        assert "not numbers" in refusal(make, features=None)

    def test_labels(self):
        assert "nodes 1, 4" in refusal(make, labels=torch.tensor([0, -2, 1, 2, -7, 1, 1, 1, 2, 0, 0, 0]))
        assert "several labels per node" in refusal(make, labels=torch.ones(N, 5))
        assert "13 labels; the graph has 12" in refusal(make, labels=torch.arange(13) % 3)
        assert "labels of node 3 are not whole" in refusal(make, labels=torch.tensor([0, 1, 2, 0.5] + [1] * 8))
        assert "not whole" in refusal(make, labels=torch.tensor([float("inf")] * N))
        assert "out of range: 2 classes are numbered 0 to 1" in refusal(make, labels=LABELS, num_classes=2)
        assert "no node has a label" in refusal(make, labels=-torch.ones(N))
        assert "all labels are 0" in refusal(make, labels=torch.zeros(N, dtype=torch.int64))
        assert "all labels are 'a'" in refusal(make, labels=["a"] * N)
        assert "neither numbers nor text" in refusal(make, labels=[object()] * N)
        assert "labels is None" in refusal(make, labels=None)

    def test_masks(self):
        assert "training nodes are not given" in refusal(make, train=None)
        assert "validation, test nodes are not given" in refusal(make, val=None, test=None)
        assert "no validation nodes" in refusal(make, val=mask([]))
        assert "no test nodes" in refusal(make, test=torch.zeros(0, dtype=torch.int64))
        assert "the training and the test nodes overlap in nodes 3, 7." in refusal(
            make, test=[3, 7, 8, 9], train=[0, 1, 2, 3, 7]
        )
        assert "test nodes: the graph has no node -1, 12" in refusal(make, test=[7, -1, 12])
        assert "test nodes contain node 8 more than once" in refusal(make, test=[7, 8, 8])
        assert "training mask has 3 entries" in refusal(make, train=torch.ones(3, dtype=torch.bool))
        assert "have 10 masks; choose one" in refusal(make, train=torch.ones(N, 10, dtype=torch.bool))
        assert "0.5 is not a whole number" in refusal(make, train=torch.full((N,), 0.5))

    def test_masks_and_labels_together(self):
        labels = LABELS.clone()
        labels[[1, 8]] = -1
        message = refusal(make, labels=labels)
        assert "the training nodes include node 1 without label" in message
        assert "the test nodes include node 8 without label" in message

    def test_classes_without_training_node(self):
        assert "no training node is of class 1, 2 of the classes 0 to 2" in refusal(make, train=[0, 3])
        labels = torch.tensor([0, 1, 3] * 4)
        assert "no training node is of class 2" in refusal(make, labels=labels, num_classes=4)
        assert "no training node is of class 2" in refusal(
            make, labels=labels, num_classes=4, train=None, val=None, test=None, split="0.4/0.3/0.3"
        )

    def test_a_split_with_an_empty_part(self):
        message = refusal(make_task, ring(), features=features(), labels=LABELS, split="0.9/0.05/0.05")
        assert "leaves no validation nodes" in message or "leaves no test nodes" in message

    def test_options(self):
        with pytest.raises(ConfigError, match="Did you mean 'inductive'"):
            make(setting="induktive")
        with pytest.raises(ConfigError, match=r"normalize: .*'none', 'row' or 'standard'"):
            make(normalize="l7")
        with pytest.raises(ConfigError, match="is not a split"):
            make(split="public")
        with pytest.raises(ConfigError, match="hides none"):
            make(setting="inductive", unseen_fraction=0.01)
        for option in (
            {"num_classes": 2**31},
            {"num_classes": 1},
            {"seed": -1},
            {"split": 0.5},
            {"split": "\ud800"},
            {"split": np.ones(3)},
            {"name": None},
            {"rescale": np.ones(3)},
            {"unseen_fraction": "half"},
            {"split_index": [1]},
        ):
            with pytest.raises(ConfigError, match=rf"{next(iter(option))}: |not Unicode"):
                make(**option)


def test_a_split_replaces_masks():
    task = task_from_graph(user_graph(), split="1/1")
    assert (len(task.train_idx), len(task.val_idx), len(task.test_idx)) == (3, 3, 6)
    bare = ring()
    bare.ndata["feat"], bare.ndata["label"] = features(), LABELS
    assert task_from_graph(bare, split="1/1").train_idx.equal(task.train_idx)


def test_inductive_hides_a_seeded_share_of_the_test_nodes():
    task = make(setting="inductive", unseen_fraction=0.6, seed=3)
    assert len(task.unseen_idx) == 3
    assert set(task.unseen_idx.tolist()) <= set(PARTS["test"].tolist())
    assert task.unseen_idx.equal(make(setting="inductive", unseen_fraction=0.6, seed=3).unseen_idx)
    observed = task.observed()
    assert not set(observed.node_ids.tolist()) & set(task.unseen_idx.tolist())
    expected = []
    for source, destination in zip(*(ends.tolist() for ends in ring().edges()), strict=True):
        if source not in task.unseen_idx.tolist() and destination not in task.unseen_idx.tolist():
            expected.append((source, destination))
    ids = observed.node_ids
    found = [(int(ids[u]), int(ids[v])) for u, v in zip(*observed.graph.edges(order="eid"), strict=True)]
    assert found == expected
    assert len(make(setting="inductive").unseen_idx) == 1


@pytest.mark.parametrize("normalize", ["none", "row", "standard"])
@pytest.mark.parametrize("thin", [False, True])
def test_unseen_nodes_do_not_affect_the_observed_graph(normalize, thin):
    generator = torch.Generator().manual_seed(1)
    rows = torch.zeros(N, 60)
    rows[torch.arange(N), torch.arange(N)] = 1
    rows = rows if thin else features(8)
    options = {"setting": "inductive", "unseen_fraction": 0.6, "normalize": normalize}
    clean = make(features=rows, **options)
    unseen = set(clean.unseen_idx.tolist())
    garbage_rows, garbage_labels = rows.clone(), LABELS.clone()
    for node in unseen:
        garbage_rows[node] = 1e6 * torch.rand(rows.shape[1], generator=generator)
        garbage_labels[node] = (LABELS[node] + 1) % 3
    pairs = [pair for pair in zip(*(ends.tolist() for ends in ring().edges()), strict=True) if not unseen & set(pair)]
    pairs[2:2] = [(node, other) for node in unseen for other in range(N)] * 2
    source, destination = zip(*pairs, strict=True)
    dirty = make(dgl.graph((source, destination), num_nodes=N), features=garbage_rows, labels=garbage_labels, **options)
    assert dirty.unseen_idx.equal(clean.unseen_idx)
    assert_same_observed(clean, dirty)
    assert not dirty.features.to_dense()[clean.unseen_idx].equal(clean.features.to_dense()[clean.unseen_idx])


@pytest.mark.parametrize("normalize", ["none", "row", "standard"])
def test_only_observed_rows_set_the_scale(normalize):
    rows = 0.01 * features(8)
    options = {"setting": "inductive", "unseen_fraction": 0.6, "normalize": normalize}
    plain, rescaled = make(features=rows, rescale=False, **options), make(features=rows, **options)
    longer = rows.clone()
    longer[plain.unseen_idx] *= 1000
    lengths = [sum(value**2 for value in row) for row in plain.observed().features.tolist()]
    expected = (sum(lengths) / len(lengths)) ** -0.5
    # Standardised rows are long, and row-normalised ones of eight columns just below a half.
    expected = expected if expected > 2 else 1.0
    assert (expected == 1) == (normalize == "standard")
    for task in (rescaled, make(features=longer, **options)):
        assert task.normalization.scale == pytest.approx(expected)
        torch.testing.assert_close(task.observed().features, plain.observed().features * expected)


def test_setting_the_scale_does_not_copy_features(monkeypatch):
    """They may be mapped from a file larger than memory."""

    def copies(*_):
        raise AssertionError("the observed rows are copied")

    monkeypatch.setattr("dgl_rbm.data.build.take", copies)
    assert make(setting="inductive", unseen_fraction=0.6).features.equal(features())


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_test_labels_do_not_affect_the_observed_graph(setting):
    corrupt = LABELS.clone()
    corrupt[PARTS["test"]] = (corrupt[PARTS["test"]] + 1) % 3
    clean, dirty = make(setting=setting), make(setting=setting, labels=corrupt)
    assert_same_observed(clean, dirty)
    assert clean.full().features.equal(dirty.full().features)
    assert not clean.test_labels().equal(dirty.test_labels())
    for name in ("train_idx", "val_idx", "test_idx", "unseen_idx"):
        assert getattr(clean, name).equal(getattr(dirty, name))
