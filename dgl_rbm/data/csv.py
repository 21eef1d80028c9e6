"""Dataset `csv`: a user's graph in DGL's CSV format, a folder of tables and a `meta.yaml`."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, Literal

import yaml

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.file import FieldsConfig
from dgl_rbm.data.files import DAMAGE
from dgl_rbm.errors import DataError, DatasetNotFoundError
from dgl_rbm.registry import datasets

__all__ = ["CsvConfig"]

_TABLES = ("node_data", "edge_data", "graph_data")
_HINT = "https://docs.dgl.ai/guide/data-loadcsv.html describes the format."


@datasets.register
class CsvConfig(FieldsConfig):
    """A graph in DGL's CSV format; the columns of its tables are node fields."""

    kind: Literal["csv"] = "csv"

    def graph_files(self, path: Path) -> list[Path]:
        """Return the `meta.yaml` of the folder `path` and the tables listed in it."""
        described = path / "meta.yaml"
        try:
            content = yaml.safe_load(described.read_text(encoding="utf-8"))
            parts = [part for name in _TABLES for part in _listed(content.get(name))]
            return [described, *(path / str(part["file_name"]) for part in parts)]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, AttributeError):
            # `read_graph` reports the problem.
            return [described]

    def read_graph(self, path: Path) -> Any:
        """Return the graph in the folder `path`."""
        if not (path / "meta.yaml").is_file():
            raise DatasetNotFoundError(f"There is no 'meta.yaml' in the folder '{path}'.", hint=_HINT)
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graphs = _Reader(path).graphs
        except (*DAMAGE, dgl.DGLError, yaml.YAMLError) as error:
            details = " ".join([f"{type(error).__name__}: {error}", *output.getvalue().split()])
            raise DataError(f"The tables in '{path}' cannot be read: {details}", hint=_HINT) from None
        if len(graphs) != 1:
            raise DataError(f"The tables in '{path}' contain {len(graphs)} graphs; expected one.", hint=_HINT)
        return graphs[0]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


class _Reader(dgl.data.CSVDataset):
    """DGL's reader without its cache, which would be written into the user's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), verbose=False)

    def has_cache(self) -> bool:
        return False

    def save(self) -> None:
        pass
