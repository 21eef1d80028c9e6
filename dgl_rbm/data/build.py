"""From a `LabeledGraph` to a checked `NodeTask`: checks, split, unseen nodes, normalisation and layout."""

from __future__ import annotations

from typing import Any, get_args

import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.data.base import DEFAULT_UNSEEN_FRACTION, LabeledGraph, NormalizationKind
from dgl_rbm.data.checks import check_features, check_labels, check_nodes, check_split, graph_problems
from dgl_rbm.data.splits import NodeSplit, choose_unseen, draw_split, parse_split
from dgl_rbm.data.structure import structure, symmetrized
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.errors import ConfigError, DataError, closest, raise_problems
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
) -> NodeTask:
    """Check a labelled graph, draw what its split leaves open, and normalise its features.

    Parameters
    ----------
    source : LabeledGraph
        What a dataset loaded.
    setting, seed, split, unseen_fraction, normalize, rescale, symmetrize
        As for `make_task`; where None, the dataset's own.

    Raises
    ------
    DataError, ConfigError
        As `make_task` does.
    """
    normalize = source.normalize if normalize is None else normalize
    _check_choice("setting", setting, get_args(Setting))
    _check_choice("normalize", normalize, get_args(NormalizationKind))
    if split is not None:
        parse_split(split)

    problems = list(source.problems)
    # What a reader found missing it has said already; what a caller passes as None is reported here.
    unsaid = not problems
    features = labels = num_nodes = None
    if source.graph is not None or unsaid:
        found = graph_problems(source.graph)
        problems += found
        num_nodes = None if found else source.graph.num_nodes()
    if source.features is not None or unsaid:
        features = check_features(source.features, num_nodes, problems)
    if source.labels is not None or unsaid:
        labels = check_labels(source.labels, num_nodes, source.num_classes, problems)
    num_classes = source.num_classes
    if num_classes is None and labels is not None:
        num_classes = int(labels.max()) + 1
    given = {"training": source.train_idx, "validation": source.val_idx, "test": source.test_idx}
    drawn = split or (source.default_split if all(part is None for part in given.values()) else None)
    parts = {} if drawn else _read_parts(given, num_nodes, problems, unsaid)
    check_split(parts, labels, num_classes, problems, allow_missing_classes=source.allow_missing_classes)
    raise_problems(problems, DataError, f"The graph '{source.name}'")

    # Whatever is None has a problem that was raised.
    assert features is not None
    assert labels is not None
    assert num_classes is not None
    if drawn:
        nodes = _draw(drawn, labels, num_classes, seed, source)
    else:
        nodes = NodeSplit(*(ids for ids in parts.values() if ids is not None))
    if unseen_fraction is None:
        unseen_fraction = DEFAULT_UNSEEN_FRACTION if split else source.unseen_fraction
    unseen = nodes.test_idx[:0]
    if setting == "inductive":
        unseen = choose_unseen(nodes.test_idx, unseen_fraction, seed)
    normalization, rows = _normalized(normalize, rescale, features, unseen)
    return NodeTask(
        name=source.name,
        graph=symmetrized(source.graph) if symmetrize else structure(source.graph, share=source._owns_graph),
        features=rows,
        train_idx=nodes.train_idx,
        val_idx=nodes.val_idx,
        test_idx=nodes.test_idx,
        unseen_idx=unseen,
        setting=setting,
        num_classes=num_classes,
        normalization=normalization,
        _labels=labels,
    )


def _check_choice(what: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = closest(str(value), choices)
        guess = f" Did you mean '{near}'?" if near else ""
        raise ConfigError(f"{what} is {value!r}.{guess} Choices: {', '.join(choices)}.")


def _read_parts(
    given: dict[str, Any], num_nodes: int | None, problems: list[str], unsaid: bool
) -> dict[str, Tensor | None]:
    parts: dict[str, Tensor | None] = dict.fromkeys(given)
    for part, values in given.items():
        if values is not None and num_nodes is not None:
            parts[part] = check_nodes(values, part, num_nodes, problems)
    absent = [part for part, values in given.items() if values is None]
    if absent and unsaid:
        problems.append(
            f"the {', '.join(absent)} nodes are not given; pass all three masks, or a split such as '20/30'."
        )
    return parts


def _draw(split: str, labels: Tensor, num_classes: int, seed: int, source: LabeledGraph) -> NodeSplit:
    nodes = draw_split(split, labels, num_classes, seed)
    parts = {"training": nodes.train_idx, "validation": nodes.val_idx, "test": nodes.test_idx}
    problems = [f"the split '{split}' leaves no {part} nodes." for part, ids in parts.items() if not len(ids)]
    check_split(parts, labels, num_classes, problems, allow_missing_classes=source.allow_missing_classes)
    raise_problems(
        problems,
        DataError,
        f"The graph '{source.name}'",
        hint="The labelled nodes of each class are split on their own: use other fractions, or number the classes "
        "that occur from 0.",
    )
    return nodes


def _normalized(
    kind: NormalizationKind, rescale: bool, features: Rows, unseen: Tensor
) -> tuple[FeatureNormalization, Rows]:
    """Normalise, and pick the layout; unseen rows have no say in either."""
    seen = torch.ones(len(features), dtype=torch.bool)
    seen[unseen] = False
    # Only these statistics ask for the observed rows alone, which are a copy where any node is unseen.
    picks = kind == "standard" and len(unseen)
    normalization = FeatureNormalization.fit(kind, take(features, seen.nonzero().squeeze(1)) if picks else features)
    rows = normalization.apply(features)
    if rescale:
        normalization = normalization.rescaled(norms(rows)[seen])
        rows = rows if normalization.scale == 1 else normalization.apply(features)
    filled = _nonzeros(rows)[seen].sum() / max(1, int(seen.sum()) * rows.shape[1])
    return normalization, compact(rows, float(filled))


def compact(rows: Rows, density: float) -> Rows:
    """Return `rows` in the layout whose products are faster at this share of non-zeros."""
    if density >= SPARSE_BELOW_DENSITY:
        return rows if isinstance(rows, Tensor) else rows.to_dense()
    return SparseRows.from_scipy(sp.csr_matrix(rows.numpy())) if isinstance(rows, Tensor) else rows


def _nonzeros(rows: Rows) -> Tensor:
    """Return the number of non-zeros in each row, int64 ``[N]``."""
    if isinstance(rows, Tensor):
        # Piece by piece, for they may lie on disk.
        return torch.cat([torch.count_nonzero(part, dim=1) for part in rows.split(_ROWS_AT_ONCE)])
    assert isinstance(rows, SparseRows), "features are stacked with encodings after the checks"
    pointers = rows.csr.crow_indices()
    before = torch.nn.functional.pad(torch.count_nonzero(rows.csr.values()[:, None], dim=1).cumsum(0), (1, 0))
    return before[pointers].diff()
