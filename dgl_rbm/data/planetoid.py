"""Datasets `cora`, `citeseer` and `pubmed` with the public Planetoid split, read by DGL."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.files import DAMAGE, DATA_VARIABLE, cache_folder, data_folder, download_folder
from dgl_rbm.errors import DataError, DatasetNotFoundError
from dgl_rbm.registry import datasets

__all__ = ["PlanetoidConfig"]

# DGL's names of the files and archives.
_STEMS = {"cora": "cora_v2", "citeseer": "citeseer", "pubmed": "pubmed"}
_PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")


@datasets.register
class PlanetoidConfig(DatasetConfig):
    """Citation graphs with 20 training nodes per class, 500 for validation and 1,000 for testing.

    Yang, Cohen and Salakhutdinov 2016, "Revisiting Semi-Supervised Learning with Graph Embeddings". DGL divides
    each row of features by its sum. The files are pickles: use only trusted sources.
    """

    kind: Literal["cora", "citeseer", "pubmed"]
    url: str | None = Field(None, description="URL of the zip archive of the files; null for DGL's server.")

    access: ClassVar[tuple[str, ...]] = ("url",)

    def load(self, seed: int) -> LabeledGraph:
        """Read the graph from its files; the seed is not used."""
        stem = _STEMS[self.kind]
        self.fetch()
        folder = self._folder() or cache_folder() / stem
        missing = [name for name in _file_names(stem) if not (folder / name).is_file()]
        if missing:
            raise DatasetNotFoundError(
                f"The folder '{folder}' of the dataset '{self.kind}' lacks {', '.join(missing)}.",
                hint="Complete the folder, or remove it; the next run downloads it again.",
            )
        graph = _read(self.kind, folder)
        labels, test = graph.ndata["label"].clone(), graph.ndata["test_mask"]
        # At gaps of the test index, DGL inserts nodes without features, labelled as class 0.
        inserted = ~test
        inserted[: int(test.nonzero()[0])] = False
        labels[inserted] = -1
        return LabeledGraph(
            name=self.graph_name,
            graph=graph,
            features=graph.ndata["feat"],
            labels=labels,
            train_idx=graph.ndata["train_mask"],
            val_idx=graph.ndata["val_mask"],
            test_idx=test,
            unseen_fraction=1.0,
            normalize="row",
        )

    def files(self) -> list[Path]:
        """Return the existing files."""
        folder = self._folder()
        paths = [] if folder is None else [folder / name for name in _file_names(_STEMS[self.kind])]
        return [path for path in paths if path.is_file()]

    def fetch(self) -> None:
        """Download the files if their folder is missing; raise a DatasetNotFoundError if that fails."""
        if self._folder() is not None:
            return
        stem = _STEMS[self.kind]
        server = os.environ.get("DGL_REPO", "https://data.dgl.ai/").rstrip("/")
        download_folder(
            self.url or f"{server}/dataset/{stem}.zip",
            cache_folder() / stem,
            hint=f"Put {', '.join(_file_names(stem))} into a folder '{stem}' and set {DATA_VARIABLE} to the folder "
            "that holds it; `digits` and `synthetic` need no download.",
        )

    def _folder(self) -> Path | None:
        stem = _STEMS[self.kind]
        dgl_downloads = Path(os.environ.get("DGL_DOWNLOAD_DIR") or Path.home() / ".dgl")
        for place in (data_folder(), dgl_downloads, cache_folder()):
            found = sorted(place.glob(f"{stem}*/ind.{stem}.*")) if place is not None else []
            if found:
                return found[0].parent
        return None


def _file_names(stem: str) -> list[str]:
    return [f"ind.{stem}.{part}" for part in _PARTS]


class _Reader(dgl.data.CitationGraphDataset):
    """DGL's reader without its cache, which would be written beside the files, possibly into a read-only folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self._folder = str(folder)
        super().__init__(name, raw_dir=str(folder.parent), verbose=False)

    @property
    def raw_path(self) -> str:
        return self._folder

    def has_cache(self) -> bool:
        return False

    def save(self) -> None:
        pass


def _read(kind: str, folder: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # The pickles use former module names of NumPy and SciPy; rows of zeros divide by zero.
            warnings.simplefilter("ignore")
            graph = _Reader(kind, folder)[0]
    except (*DAMAGE, dgl.DGLError) as error:
        raise DataError(
            f"The files of the dataset '{kind}' in '{folder}' cannot be read: {type(error).__name__}: {error}.",
            hint="Replace the damaged file, or remove the folder; the next run downloads it again.",
        ) from None
    if not torch.any(graph.ndata["test_mask"]):
        raise DataError(f"The file '{folder / f'ind.{_STEMS[kind]}.test.index'}' contains no test node.")
    return graph
