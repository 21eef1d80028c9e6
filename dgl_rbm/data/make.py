"""Tasks from a user's graph, with features and labels as arrays or as node fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgl_rbm.arguments import checked_arguments
from dgl_rbm.data.base import LabeledGraph, NormalizationKind
from dgl_rbm.data.build import build_task
from dgl_rbm.data.checks import graph_problems
from dgl_rbm.data.edge_weights import find_weights
from dgl_rbm.data.fields import find_features, find_field, unused_fields
from dgl_rbm.data.files import map_features
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.errors import DataError, raise_problems
from dgl_rbm.runtime.process_state import isolated

__all__ = ["labeled_graph", "make_task", "task_from_graph"]


@checked_arguments("make_task")
@isolated()
def make_task(
    graph: Any,
    *,
    features: Any,
    labels: Any,
    name: str = "graph",
    train: Any = None,
    val: Any = None,
    test: Any = None,
    split: str | None = None,
    setting: Setting = "transductive",
    unseen_fraction: float | None = None,
    normalize: NormalizationKind = "none",
    rescale: bool = True,
    symmetrize: bool = False,
    seed: int = 0,
    num_classes: int | None = None,
    node_ids: Any = None,
    edge_weight: Any = None,
    classes: Sequence[int | str] | None = None,
    split_index: int | None = None,
    allow_missing_classes: bool = False,
) -> NodeTask:
    """Make a task from a graph and arrays.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous; messages flow along its edges. It is not changed: the task has a copy of its structure, with
        repeated edges and self-loops.
    features : array-like or path
        Real numbers ``[N, F]``: a tensor, a NumPy array, a SciPy sparse matrix, `SparseRows`, or the path of a
        ``.npy`` file. A float32 file is mapped copy-on-write and may be larger than memory; so is an array of
        ``numpy.load(path, mmap_mode="c")``, up to the size of memory. Arrays of other ``mmap_mode`` are copied.
    labels : array-like
        Classes ``[N]``: class numbers, other integers or text; −1, NaN, None or empty text for a node without label.
        Other labels than 0 to C − 1 are numbered in ascending order, and predictions are given in the labels.
    name : str
        Name in messages and reports.
    train, val, test : array-like, optional
        Masks ``[N]``, several masks ``[N, K]`` or ``[K, N]``, or own ids of nodes; disjoint and not empty, all nodes
        labelled.
    split : str, optional
        Replaces the three: ``"0.6/0.2/0.2"`` or ``"20/30"``, see `dgl_rbm.data.splits.parse_split`.
    setting : {"transductive", "inductive"}
        ``"inductive"`` hides a share of the test nodes, with their edges, from all training.
    unseen_fraction : float, optional
        Share of the test nodes that is hidden; 0.2 by default.
    normalize : {"none", "row", "standard"}
        See `FeatureNormalization`; ``"standard"`` is fitted on the observed nodes alone.
    rescale : bool
        Rescale short features by one factor; see `FeatureNormalization.rescaled`.
    symmetrize : bool
        Add the reverse of every edge and drop repeated edges.
    seed : int
        Seed for the split and the unseen nodes.
    num_classes : int, optional
        C; the number of distinct labels by default.
    node_ids : array-like, optional
        The nodes' own ids, integers or text ``[N]``, which predictions accept and return; 0 to N − 1 by default.
    edge_weight : array-like, str or False, optional
        Edge weights from 0 on, ``[E]`` in the order of ``graph.edges()``, or the edge field that contains them; the
        field ``"weight"`` by default if there is one, empty text or False for none. Edges of weight 0 are left out.
    classes : sequence of int or str, optional
        Names of the class numbers 0 to C − 1; the labels themselves by default.
    split_index : int, optional
        Which of K masks to use.
    allow_missing_classes : bool
        Whether the masks may leave a class without a training node; such a class is never predicted reliably.

    Raises
    ------
    DataError
        If anything in the graph, features, labels or split cannot be used; lists every problem.
    ConfigError
        If an option has an invalid value.
    """
    problems: list[str] = []
    notes: list[str] = []
    weight = None if graph_problems(graph) else find_weights(graph, edge_weight, problems, notes)
    raise_problems(problems, DataError, f"The graph '{name}'")
    return build_task(
        LabeledGraph(
            name=name,
            graph=graph,
            features=map_features(Path(features).expanduser()) if isinstance(features, (str, Path)) else features,
            labels=labels,
            num_classes=num_classes,
            train_idx=train,
            val_idx=val,
            test_idx=test,
            normalize=normalize,
            node_ids=node_ids,
            edge_weight=weight,
            notes=tuple(notes),
            classes=classes,
            split_index=split_index,
            allow_missing_classes=allow_missing_classes,
        ),
        setting=setting,
        seed=seed,
        split=split,
        unseen_fraction=unseen_fraction,
        rescale=rescale,
        symmetrize=symmetrize,
    )


@checked_arguments("task_from_graph")
@isolated()
def task_from_graph(
    graph: Any,
    *,
    features: str | Sequence[str] = "feat",
    labels: str = "label",
    train_mask: str = "train_mask",
    val_mask: str = "val_mask",
    test_mask: str = "test_mask",
    split: str | None = None,
    setting: Setting = "transductive",
    seed: int = 0,
    name: str = "graph",
    unseen_fraction: float | None = None,
    normalize: NormalizationKind = "none",
    rescale: bool = True,
    symmetrize: bool = False,
    num_classes: int | None = None,
    node_ids: Any = None,
    edge_weight: Any = None,
    classes: Sequence[int | str] | None = None,
    split_index: int | None = None,
    allow_missing_classes: bool = False,
) -> NodeTask:
    """Make a task from a graph with features, labels and masks as node fields.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous; it is not changed.
    features, labels, train_mask, val_mask, test_mask : str
        Names of its node fields; the masks are ignored if `split` is given. `features` may be several names, or a
        pattern such as ``"feat_*"``.
    split, setting, seed, name, unseen_fraction, normalize, rescale, symmetrize, num_classes, classes, split_index, \
    allow_missing_classes
        As for `make_task`.
    node_ids : array-like or str, optional
        The nodes' own ids, or the node field that holds them.
    edge_weight : str, array-like or False, optional
        As for `make_task`.

    Raises
    ------
    DataError, ConfigError
        As for `make_task`; missing fields are problems too.
    """
    source = labeled_graph(
        graph,
        name=name,
        features=features,
        labels=labels,
        masks=(train_mask, val_mask, test_mask),
        uses_masks=split is None,
        num_classes=num_classes,
        normalize=normalize,
        node_ids=node_ids,
        edge_weight=edge_weight,
        classes=classes,
        split_index=split_index,
        allow_missing_classes=allow_missing_classes,
    )
    return build_task(
        source,
        setting=setting,
        seed=seed,
        split=split,
        unseen_fraction=unseen_fraction,
        rescale=rescale,
        symmetrize=symmetrize,
    )


def labeled_graph(
    graph: Any,
    *,
    name: str,
    features: Any,
    labels: str,
    masks: tuple[str, str, str],
    uses_masks: bool = True,
    num_classes: int | None = None,
    normalize: NormalizationKind = "none",
    node_ids: Any = None,
    edge_weight: Any = None,
    classes: Sequence[int | str] | None = None,
    split_index: int | None = None,
    allow_missing_classes: bool = False,
) -> LabeledGraph:
    """Return a graph with its node fields as features, labels and masks; missing ones are added to `problems`.

    `features` is the name of a node field, several names or patterns, or an array ``[N, F]``; `node_ids` the name of a
    node field or an array ``[N]``. `edge_weight` is as for `make_task`. Fields that are not used are named in
    `notes`; masks are not if `uses_masks` is false, since whoever gives a split leaves them out on purpose.
    """
    problems = graph_problems(graph)
    found: list[Any] = [None] * 5
    notes: list[str] = []
    weight = None
    if not problems:
        weight = find_weights(graph, edge_weight, problems, notes)
        read = masks if uses_masks else ()
        others = (labels, *read, node_ids)
        notes += unused_fields(graph, features, (*others, *masks))
        features = find_features(graph, features, problems, excluded=others)
        fields = [(features, "features"), (labels, "labels")]
        fields += zip(read, ("training mask", "validation mask", "test mask"), strict=False)
        found[: len(fields)] = [
            find_field(graph, field, what, problems) if isinstance(field, str) else field for field, what in fields
        ]
        if isinstance(node_ids, str):
            node_ids = find_field(graph, node_ids, "node ids", problems)
        if read and all(mask is None for mask in found[2:]):
            problems.append("without masks, give a split such as '20/30' or '0.6/0.2/0.2'.")
    else:
        graph = None
    return LabeledGraph(
        name=name,
        graph=graph,
        features=found[0],
        labels=found[1],
        num_classes=num_classes,
        train_idx=found[2],
        val_idx=found[3],
        test_idx=found[4],
        normalize=normalize,
        problems=tuple(problems),
        notes=tuple(notes),
        node_ids=node_ids,
        edge_weight=weight,
        classes=classes,
        split_index=split_index,
        allow_missing_classes=allow_missing_classes,
    )
