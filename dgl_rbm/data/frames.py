"""Tasks from two tables, one of nodes and one of edges: data frames or files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from dgl_rbm.data.conversion.common import OPTIONS, TaskArguments, graph_of, task_of
from dgl_rbm.data.table_graph import Columns, read_graph_tables
from dgl_rbm.data.tables import Table
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import ConfigError, DataError, UnknownNameError, raise_problems, shown

__all__ = ["from_csv", "from_pandas"]

_NODE_IDS = ("node_id", "id")
_ENDS = (("src_id", "dst_id"), ("source", "target"), ("src", "dst"), ("from", "to"))
_MASKS = {"train": "train_mask", "val": "val_mask", "test": "test_mask"}
_FEATURES = "feat"


def from_pandas(
    edges: Any,
    nodes: Any,
    *,
    label: str = "label",
    features: str | Sequence[str] | None = None,
    node_id: str | None = None,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    train: Any = None,
    val: Any = None,
    test: Any = None,
    **options: Any,
) -> NodeTask:
    """Make a task from a data frame of edges and one of nodes.

    The task has the nodes in the order of `nodes`, and remembers their ids and the names of the classes: predictions
    accept and return them.

    Parameters
    ----------
    edges, nodes : pandas.DataFrame
        One row per edge and per node; other data frames with named columns are accepted too. Messages flow from source
        to target; ``symmetrize=True`` adds the reverse of every edge.
    label : str
        Column of the labels: integers or text; empty for a node without label.
    features : str or sequence of str, optional
        Columns of the features, or patterns such as ``"feat_*"``; by default the column ``feat``, or without one, all
        columns that are not used otherwise. A cell is a number, or a packed list such as ``"0.1, 0.2"``.
    node_id : str, optional
        Column of the nodes' own ids, integers or text; by default ``node_id`` or ``id``, or without them the index of
        `nodes`.
    source, target : str, optional
        Columns of the ids at both ends of an edge; by default ``src_id`` and ``dst_id``, ``source`` and ``target``,
        ``src`` and ``dst``, or ``from`` and ``to``.
    weight : str, optional
        Column of the edge weights; by default ``weight`` if there is one, empty text for none.
    train, val, test : str or array-like, optional
        Columns of the masks, or masks or ids as for `make_task`; by default ``train_mask``, ``val_mask`` and
        ``test_mask``, unless `split` is given.
    **options
        `split`, `setting`, `seed`, `name`, `normalize`, `unseen_fraction`, `rescale`, `symmetrize`, `num_classes`,
        `classes`, `split_index` and `allow_missing_classes`, as for `make_task`.

    Raises
    ------
    DataError
        If anything in the tables cannot be used; names table, column, row and value.
    ConfigError
        If an option is unknown or has an invalid value.
    """
    if node_id is None and isinstance(nodes, pd.DataFrame) and not any(name in nodes.columns for name in _NODE_IDS):
        node_id = "index" if nodes.index.name is None else str(nodes.index.name)
        nodes = _with_index(nodes, node_id)
    tables = Table.from_frame(nodes, "nodes"), Table.from_frame(edges, "edges")
    wanted = _Wanted(label, features, node_id, source, target, weight, {"train": train, "val": val, "test": test})
    return _task(*tables, wanted, options)


def from_csv(
    edges: str | Path,
    nodes: str | Path,
    *,
    separator: str = ",",
    label: str = "label",
    features: str | Sequence[str] | None = None,
    node_id: str | None = None,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    train: Any = None,
    val: Any = None,
    test: Any = None,
    **options: Any,
) -> NodeTask:
    """Make a task from a file of edges and one of nodes.

    Parameters
    ----------
    edges, nodes : str or Path
        CSV files with a header, in UTF-8, possibly compressed, or ``.parquet`` files.
    separator : str
        Separator of the cells in both CSV files.
    label, features, node_id, source, target, weight, train, val, test, **options
        As for `from_pandas`; without a column ``node_id`` or ``id``, the first column contains the ids. Ids are
        integers if all of the column are, and text otherwise, so that ``007`` stays as it is.

    Raises
    ------
    DataError
        If a file is missing, or anything in it cannot be used; names file, column, row, line and value.
    ConfigError
        If an option is unknown or has an invalid value.
    """
    paths = [Path(path).expanduser() for path in (nodes, edges)]
    tables = [Table.from_file(path, separator=separator) for path in paths]
    if node_id is None and not any(name in tables[0].names for name in _NODE_IDS):
        node_id = tables[0].names[0]
    options.setdefault("name", paths[0].stem)
    wanted = _Wanted(label, features, node_id, source, target, weight, {"train": train, "val": val, "test": test})
    return _task(tables[0], tables[1], wanted, options)


@dataclass(frozen=True)
class _Wanted:
    """Arguments that name columns."""

    label: str
    features: str | Sequence[str] | None
    node_id: str | None
    source: str | None
    target: str | None
    weight: str | None
    parts: dict[str, Any]

    def __post_init__(self) -> None:
        for option in ("label", "node_id", "source", "target", "weight"):
            name = getattr(self, option)
            if not isinstance(name, str) and (name is not None or option == "label"):
                raise ConfigError(f"{option} is {shown(name)}; expected the name of a column.")
        if self.features is None or isinstance(self.features, str):
            return
        is_list = isinstance(self.features, Iterable) and getattr(self.features, "ndim", 1) == 1
        names = tuple(self.features) if is_list else ()
        if not is_list or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"features is {shown(self.features)}; expected names of columns.",
                hint="Example: features=['days', 'views'], or 'feat_*' for a pattern.",
            )
        object.__setattr__(self, "features", names)

    def columns(self, nodes: Table, edges: Table, masks: dict[str, str]) -> Columns:
        """Return the names of all columns, with the defaults that the tables have."""
        pair = next((pair for pair in _ENDS if all(name in edges.names for name in pair)), _ENDS[0])
        features = self.features
        if features is None:
            features = _FEATURES if _FEATURES in nodes.names else "*"
        return Columns(
            node_id=self.node_id or next((name for name in _NODE_IDS if name in nodes.names), _NODE_IDS[0]),
            source=self.source or pair[0],
            target=self.target or pair[1],
            features=features,
            label=self.label,
            masks=masks,
            weight=self.weight,
        )

    def masks(self, nodes: Table, split: Any) -> dict[str, str]:
        """Return the columns of the masks by part; those of parts given as arrays are left out."""
        if split is not None:
            return {}
        named = {part: name for part, name in self.parts.items() if isinstance(name, str)}
        if any(value is not None for value in self.parts.values()):
            return named
        return _MASKS if any(name in nodes.names for name in _MASKS.values()) else {}


def _task(nodes: Table, edges: Table, wanted: _Wanted, options: dict[str, Any]) -> NodeTask:
    known = [name for name in OPTIONS if name not in _MASKS]
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    name = options.get("name", "graph")
    masks = wanted.masks(nodes, options.get("split"))
    problems: list[str] = []
    found = read_graph_tables(nodes, edges, wanted.columns(nodes, edges, masks), problems)
    raise_problems(problems, DataError, f"The graph '{name}'")
    assert found is not None, "problems were raised above"
    parts = {part: value for part, value in wanted.parts.items() if not isinstance(value, str)}
    parts |= dict(zip(masks, found.masks, strict=True))
    return task_of(
        cast(TaskArguments, options),
        graph=graph_of(found.source, found.target, len(found.ids)),
        features=found.features,
        labels=found.labels,
        **{f"{part}_idx": value for part, value in parts.items()},
        node_ids=found.ids.values,
        edge_weight=found.weight,
        notes=found.notes,
        feature_names=found.feature_names,
    )


def _with_index(nodes: pd.DataFrame, name: str) -> pd.DataFrame:
    if isinstance(nodes.index, pd.MultiIndex):
        raise DataError("The nodes have an index of several levels; expected one id per node.", hint="Pass `node_id`.")
    if name in map(str, nodes.columns):
        raise DataError(
            f"The nodes have neither a column 'node_id' nor 'id', and a column and the index are named '{name}'.",
            hint=f"Pass `node_id='{name}'` to use the column.",
        )
    whole = nodes.copy(deep=False)
    whole.insert(0, name, nodes.index)
    return whole
