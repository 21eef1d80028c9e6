"""Dataset `csv`: a user's graph in DGL's CSV format, a folder of tables and a `meta.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from dgl_rbm.data.base import LabeledGraph
from dgl_rbm.data.csv_meta import FORMAT_HINT, CsvMeta, read_meta
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.file import FieldsConfig
from dgl_rbm.data.files import map_features
from dgl_rbm.data.recognition import without_description
from dgl_rbm.data.table_graph import Columns, TableGraph, read_graph_tables
from dgl_rbm.data.tables import Table, listed
from dgl_rbm.errors import DataError, raise_problems
from dgl_rbm.registry import datasets

__all__ = ["CsvConfig"]


@datasets.register
class CsvConfig(FieldsConfig):
    """A graph in DGL's CSV format; the columns of its tables are node fields."""

    kind: Literal["csv"] = "csv"
    node_ids: str | None = Field(
        None, description="Column of the nodes' own ids; null for the one named in meta.yaml, 'node_id' by default."
    )
    graph_id: int | str | None = Field(
        None, description="Id of the graph to read, if the tables hold several; null for the only one."
    )

    def graph_files(self, path: Path) -> list[Path]:
        """Return the `meta.yaml` of the folder `path` and the tables listed in it."""
        described = path / "meta.yaml"
        try:
            return [described, *(path / name for name in read_meta(described).file_names)]
        except DataError:
            # `load` reports the problem.
            return [described]

    def load(self, seed: int) -> LabeledGraph:
        """Read the graph; the masks are ignored if the option `split` is set."""
        masks = {} if self.split else {"train": self.train_mask, "val": self.val_mask, "test": self.test_mask}
        features = None if self.features_path is None else map_features(Path(self.features_path).expanduser())
        found = self.read_tables(
            Path(self.path).expanduser(), label=self.labels, masks=masks, reads_features=features is None
        )
        ends = [torch.from_numpy(end) for end in (found.source, found.target)]
        return LabeledGraph(
            name=self.graph_name,
            graph=dgl.graph((ends[0], ends[1]), num_nodes=len(found.ids)),
            features=found.features if features is None else features,
            labels=found.labels,
            num_classes=self.num_classes,
            **{f"{part}_idx": mask for part, mask in zip(masks, found.masks, strict=True)},
            node_ids=found.ids.values,
            split_index=None if self.split else self.split_index,
            allow_missing_classes=self.allow_missing_classes,
            edge_weight=found.weight,
            notes=found.notes,
            feature_names=found.feature_names if features is None else (),
            _owns_graph=True,
        )

    def read_tables(
        self,
        folder: Path,
        *,
        label: str | None = None,
        masks: Mapping[str, str] | None = None,
        reads_features: bool = True,
        ascending: bool = True,
    ) -> TableGraph:
        """Return the content of the tables in `folder`.

        Parameters
        ----------
        folder : Path
            Contains `meta.yaml`.
        label : str, optional
            Column of the labels; not read by default.
        masks : mapping of str to str, optional
            Columns of the masks by part; not read by default.
        reads_features : bool
            Whether to read the features.
        ascending : bool
            Whether nodes with integer ids are put in ascending order; otherwise nodes have the order of the table.

        Raises
        ------
        DatasetNotFoundError
            If there is no `meta.yaml`.
        DataError
            If anything in it or in the tables cannot be used; names file, column, row and value.
        """
        if not (folder / "meta.yaml").is_file():
            raise without_description(folder)
        meta = read_meta(folder / "meta.yaml")
        node_data, edge_data = meta.tables()
        columns = Columns(
            node_id=self.node_ids or node_data.node_id_field,
            source=edge_data.src_id_field,
            target=edge_data.dst_id_field,
            features=self.features if reads_features else None,
            label=label,
            masks=masks or {},
            weight=self.edge_weight,
            others=(node_data.graph_id_field, edge_data.graph_id_field),
        )
        problems: list[str] = []
        tables = self._one_graph(folder, meta, problems)
        found = read_graph_tables(*tables, columns, problems, ascending=ascending) if tables else None
        raise_problems(problems, DataError, f"The graph '{self.graph_name}' in '{folder}'", hint=FORMAT_HINT)
        assert found is not None, "problems were raised above"
        return replace(found, notes=(*meta.notes, *found.notes))

    def _one_graph(self, folder: Path, meta: CsvMeta, problems: list[str]) -> tuple[Table, Table] | None:
        """Return the rows of the graph `graph_id` in both tables."""
        node_data, edge_data = meta.tables()
        try:
            nodes = Table.from_file(folder / node_data.file_name, separator=meta.separator)
            edges = Table.from_file(folder / edge_data.file_name, separator=meta.separator)
            node_graphs = _graphs(nodes, node_data.graph_id_field)
            edge_graphs = _graphs(edges, edge_data.graph_id_field)
        except DataError as error:
            problems.append(error.as_problem())
            return None
        known = sorted({*node_graphs.tolist(), *edge_graphs.tolist()})
        wanted = known[0] if self.graph_id is None and len(known) == 1 else str(self.graph_id)
        if not len(node_graphs):
            problems.append(f"{nodes.source} has no rows; expected one per node.")
        elif wanted not in known:
            given = "" if self.graph_id is None else f", none of id {self.graph_id}"
            problems.append(
                f"the tables contain {len(known)} graphs{given}; choose one with `dataset.graph_id`: {listed(known)}."
            )
        else:
            return nodes.where(node_graphs == wanted), edges.where(edge_graphs == wanted)
        return None


def _graphs(table: Table, column: str) -> np.ndarray:
    """Return the id of each row's graph as text; "0" without such a column."""
    if column not in table.names:
        return np.full(len(table), "0", dtype=object)
    return np.array([text.strip() for text in table.column(column)], dtype=object)
