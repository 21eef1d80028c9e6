"""The file `meta.yaml` of a folder in DGL's CSV format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from dgl_rbm.config import StrictConfig, read_yaml, validated
from dgl_rbm.errors import DataError, DglRbmError, closest

__all__ = ["FORMAT_HINT", "CsvMeta", "read_meta"]

_VERSION = "1.0.0"
FORMAT_HINT = "https://docs.dgl.ai/guide/data-loadcsv.html describes the format."


class _NodeTable(StrictConfig):
    """Entry of `node_data`."""

    file_name: str
    ntype: str = "_V"
    graph_id_field: str = "graph_id"
    node_id_field: str = "node_id"


class _EdgeTable(StrictConfig):
    """Entry of `edge_data`."""

    file_name: str
    etype: list[str] = Field(["_V", "_E", "_V"], min_length=3, max_length=3)
    graph_id_field: str = "graph_id"
    src_id_field: str = "src_id"
    dst_id_field: str = "dst_id"


class _GraphTable(StrictConfig):
    """The entry `graph_data`, whose table describes whole graphs and is not read."""

    file_name: str
    graph_id_field: str = "graph_id"


class CsvMeta(StrictConfig):
    """Content of `meta.yaml`."""

    version: str = _VERSION
    dataset_name: str = ""
    separator: str = Field(",", min_length=1)
    node_data: list[_NodeTable]
    edge_data: list[_EdgeTable]
    graph_data: _GraphTable | None = None
    notes: tuple[str, ...] = Field((), exclude=True)

    @field_validator("version")
    @classmethod
    def _is_known(cls, version: str) -> str:
        if version != _VERSION:
            raise ValueError(f"expected '{_VERSION}'")
        return version

    @property
    def file_names(self) -> list[str]:
        """Names of all tables that are read."""
        return [table.file_name for table in self.node_data] + [table.file_name for table in self.edge_data]

    def tables(self) -> tuple[_NodeTable, _EdgeTable]:
        """Return the only table of nodes and the only table of edges.

        Raises
        ------
        DataError
            If there are several types of nodes or edges, or the edges are of other types.
        """
        nodes, edges = [table.ntype for table in self.node_data], [table.etype for table in self.edge_data]
        if len(nodes) != 1 or len(edges) != 1:
            raise DataError(
                f"'meta.yaml' describes {len(nodes)} node tables ({', '.join(nodes) or 'none'}) and {len(edges)} edge "
                f"tables ({', '.join(':'.join(etype) for etype in edges) or 'none'}); expected one of each, because "
                "heterogeneous graphs are not supported.",
                hint=f"Join the tables of all types, with one range of node ids. {FORMAT_HINT}",
            )
        if {edges[0][0], edges[0][2]} != {nodes[0]}:
            raise DataError(
                f"'meta.yaml': the edges go from '{edges[0][0]}' to '{edges[0][2]}'; the only node type is "
                f"'{nodes[0]}'.",
                hint=f"Write etype: [{nodes[0]}, {edges[0][1]}, {nodes[0]}]. {FORMAT_HINT}",
            )
        return self.node_data[0], self.edge_data[0]


def read_meta(path: Path) -> CsvMeta:
    """Read `meta.yaml`.

    Raises
    ------
    DataError
        If it is no YAML, or an entry is missing, unknown or of another type.
    """
    try:
        found: CsvMeta = validated(CsvMeta, _completed(read_yaml(path, "description")), where="")
    except DglRbmError as error:
        raise DataError(f"'{path}' cannot be read: {error.message}", hint=FORMAT_HINT) from None
    return found


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without empty and foreign entries, and single tables as lists.

    Entries that resemble a known one stay, so that a misspelt name is an error.
    """
    known = sorted(CsvMeta.model_fields.keys() - {"notes"})
    foreign = [key for key in values if key not in known and closest(str(key), known) is None]
    cleaned = {key: _without_nulls(value) for key, value in values.items() if value is not None and key not in foreign}
    unused = [f"'meta.yaml': '{key}' is not used." for key in foreign]
    if cleaned.get("graph_data"):
        unused.append("'meta.yaml': the table of graph_data is not used.")
    cleaned["notes"] = tuple(unused)
    for key in ("node_data", "edge_data"):
        if isinstance(cleaned.get(key), dict):
            cleaned[key] = [cleaned[key]]
    return cleaned


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
