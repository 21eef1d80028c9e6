"""Construction of a `NodeTask` from a `LabeledGraph`: checks, split, unseen nodes, normalisation, layout."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.config import validated
from dgl_rbm.data.base import DEFAULT_UNSEEN_FRACTION, LabeledGraph, NormalizationKind
from dgl_rbm.data.checks import check_features, check_split, graph_problems
from dgl_rbm.data.edge_weights import check_weights
from dgl_rbm.data.labels import ReadLabels, read_labels
from dgl_rbm.data.masks import read_parts
from dgl_rbm.data.options import TaskOptions
from dgl_rbm.data.splits import NodeSplit, SavedSplit, choose_unseen, draw_split
from dgl_rbm.data.structure import structure, symmetrized
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.errors import DataError, DataWarning, raise_problems, warn
from dgl_rbm.rows.convert import column_names
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.normalization import FeatureNormalization
from dgl_rbm.rows.sparse import SPARSE_BELOW_DENSITY, Rows, SparseRows, norms, take

__all__ = ["build_task", "compact"]

_ROWS_AT_ONCE = 65_536


def build_task(
    source: LabeledGraph,
    *,
    setting: Setting,
    seed: int,
    split: str | None = None,
    unseen_fraction: float | None = None,
    normalize: NormalizationKind | None = None,
    rescale: bool = True,
    symmetrize: bool = False,
    known_split: SavedSplit | None = None,
) -> NodeTask:
    """Check a labelled graph, draw its split if it has none, and normalise its features.

    Parameters
    ----------
    source : LabeledGraph
        Graph of a dataset or a user.
    setting, seed, split, unseen_fraction, normalize, rescale, symmetrize
        As for `make_task`; None for the dataset's own value.
    known_split : SavedSplit, optional
        Split and unseen nodes of a saved run on this graph, which replace all others.

    Warns
    -----
    DataWarning
        For every part of the graph that is not used or was read in another form.

    Raises
    ------
    DataError, ConfigError
        As `make_task` does.
    """
    options = validated(
        TaskOptions,
        {
            "name": source.name,
            "setting": setting,
            "seed": seed,
            "split": split,
            "unseen_fraction": unseen_fraction,
            "normalize": source.normalize if normalize is None else normalize,
            "rescale": rescale,
            "symmetrize": symmetrize,
            "num_classes": source.num_classes,
            "split_index": source.split_index,
            "allow_missing_classes": source.allow_missing_classes,
        },
        where="",
        hint="`help(dgl_rbm.make_task)` describes the options.",
    )
    return _build(source, options, known_split)


def _build(source: LabeledGraph, options: TaskOptions, known_split: SavedSplit | None) -> NodeTask:
    seed, split, unseen_fraction = options.seed, options.split, options.unseen_fraction
    problems = list(source.problems)
    # A reader has already reported missing parts; parts that a caller passes as None are reported here.
    report_missing = not problems
    features = labels = ids = num_nodes = weights = None
    of_weights: list[str] = []
    if source.graph is not None or report_missing:
        found = graph_problems(source.graph)
        problems += found
        num_nodes = None if found else source.graph.num_nodes()
        if num_nodes is not None and source.edge_weight is not None:
            weights = check_weights(source.edge_weight, source.graph.num_edges(), problems, of_weights)
        ids = None if num_nodes is None else _read_ids(source.node_ids, num_nodes, problems)
    if source.features is not None or report_missing:
        features = check_features(source.features, num_nodes, problems, ids)
    if source.labels is not None or report_missing:
        labels = read_labels(source.labels, num_nodes, options.num_classes, problems, source.classes)
    given = {"training": source.train_idx, "validation": source.val_idx, "test": source.test_idx}
    drawn = split or (source.default_split if all(part is None for part in given.values()) else None)
    parts = {} if drawn or known_split else _read_parts(given, ids, options.split_index, problems, report_missing)
    check_split(
        parts,
        None if labels is None else labels.numbers,
        () if labels is None else labels.classes,
        problems,
        ids=ids,
        allow_missing_classes=options.allow_missing_classes,
    )
    raise_problems(problems, DataError, f"The graph '{source.name}'")

    # For a part that is None, a problem was raised above.
    assert features is not None
    assert labels is not None
    assert ids is not None
    if known_split:
        nodes = known_split.nodes
    elif drawn:
        nodes = _draw(drawn, labels, options)
    else:
        nodes = NodeSplit(*(ids for ids in parts.values() if ids is not None))
    if unseen_fraction is None:
        unseen_fraction = DEFAULT_UNSEEN_FRACTION if split else source.unseen_fraction
    unseen = nodes.test_idx[:0]
    if known_split:
        unseen = known_split.unseen_idx
    elif options.setting == "inductive":
        unseen = choose_unseen(nodes.test_idx, unseen_fraction, seed)
    normalization, rows = _normalized(options.normalize, options.rescale, features, unseen)
    notes = (*source.notes, *of_weights, *labels.notes)
    for note in notes:
        warn(f"The graph '{source.name}': {note}", DataWarning)
    if options.symmetrize:
        graph = symmetrized(source.graph, weights)
    else:
        graph = structure(source.graph, weights, share=source._owns_graph)
    return NodeTask(
        name=source.name,
        graph=graph,
        features=rows,
        train_idx=nodes.train_idx,
        val_idx=nodes.val_idx,
        test_idx=nodes.test_idx,
        unseen_idx=unseen,
        setting=options.setting,
        num_classes=len(labels.classes),
        normalization=normalization,
        _labels=labels.numbers,
        ids=ids,
        classes=labels.classes,
        notes=notes,
        feature_names=source.feature_names or column_names(source.features),
    )


def _read_ids(values: Any, num_nodes: int, problems: list[str]) -> NodeIds | None:
    try:
        return NodeIds.of(values, num_nodes)
    except DataError as error:
        problems.append(error.as_problem())
        return None


def _read_parts(
    given: dict[str, Any], ids: NodeIds | None, split_index: int | None, problems: list[str], report_missing: bool
) -> dict[str, Tensor | None]:
    parts = {} if ids is None else read_parts(given, ids, problems, split_index=split_index)
    absent = [part for part, values in given.items() if values is None]
    if absent and report_missing:
        problems.append(
            f"the {', '.join(absent)} nodes are not given; pass all three masks, or a split such as '20/30'."
        )
    return parts


def _draw(split: str, labels: ReadLabels, options: TaskOptions) -> NodeSplit:
    allowed = options.allow_missing_classes
    nodes = draw_split(split, labels.numbers, labels.classes, options.seed, allow_missing_classes=allowed)
    parts = {"training": nodes.train_idx, "validation": nodes.val_idx, "test": nodes.test_idx}
    problems = [f"the split '{split}' leaves no {part} nodes." for part, ids in parts.items() if not len(ids)]
    check_split(parts, labels.numbers, labels.classes, problems, allow_missing_classes=allowed)
    raise_problems(
        problems,
        DataError,
        f"The graph '{options.name}'",
        hint="The labelled nodes of each class are split on their own: use other fractions, or leave out "
        "`num_classes` if a class does not occur.",
    )
    return nodes


def _normalized(
    kind: NormalizationKind, rescale: bool, features: Rows, unseen: Tensor
) -> tuple[FeatureNormalization, Rows]:
    """Normalise and choose the layout, both from the statistics of the observed rows alone."""
    seen = torch.ones(len(features), dtype=torch.bool)
    seen[unseen] = False
    # Only these statistics need the observed rows; with unseen nodes, selecting them makes a copy.
    selects = kind == "standard" and len(unseen)
    normalization = FeatureNormalization.fit(kind, take(features, seen.nonzero().squeeze(1)) if selects else features)
    rows = normalization.apply(features)
    if rescale:
        normalization = normalization.rescaled(norms(rows)[seen])
        rows = rows if normalization.scale == 1 else normalization.apply(features)
    filled = _nonzeros(rows)[seen].sum() / max(1, int(seen.sum()) * rows.shape[1])
    return normalization, compact(rows, float(filled))


def compact(rows: Rows, density: float) -> Rows:
    """Return `rows` in the layout, dense or sparse, that multiplies faster at this share of non-zeros."""
    if density >= SPARSE_BELOW_DENSITY:
        return rows if isinstance(rows, Tensor) else rows.to_dense()
    return SparseRows.from_scipy(sp.csr_matrix(rows.numpy())) if isinstance(rows, Tensor) else rows


def _nonzeros(rows: Rows) -> Tensor:
    """Return the number of non-zeros in each row, int64 ``[N]``."""
    if isinstance(rows, Tensor):
        # In blocks, since they may be mapped from a file.
        return torch.cat([torch.count_nonzero(part, dim=1) for part in rows.split(_ROWS_AT_ONCE)])
    assert isinstance(rows, SparseRows), "features are stacked with encodings after the checks"
    pointers = rows.csr.crow_indices()
    before = torch.nn.functional.pad(torch.count_nonzero(rows.csr.values()[:, None], dim=1).cumsum(0), (1, 0))
    return before[pointers].diff()
