"""Dataset `ogb`: node classification graphs of the Open Graph Benchmark.

Uses only the parsers of raw files of the `ogb` package. Its dataset class prompts on standard input, writes beside the
files, and caches graphs as pickles, which torch 2.6 and later refuse to load.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from dgl_rbm.data.arrays import MemoryMap, kept_arrays, maps, read_arrays
from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl, without_update_check
from dgl_rbm.data.files import DAMAGE, DATA_VARIABLE, cache_folder, data_folder, download_folder
from dgl_rbm.data.structure import compressed, from_compressed
from dgl_rbm.errors import DataError, DatasetNotFoundError, MissingDependencyError, UnknownNameError
from dgl_rbm.registry import datasets

__all__ = ["OgbConfig"]

_PARTS = ("train", "valid", "test")
_KEPT = ("indptr", "sources", "features", "labels", *_PARTS)
# Increment it if the same files give other arrays, so that older caches are not used.
_RECIPE = 1


@datasets.register
class OgbConfig(DatasetConfig):
    """A homogeneous, single-label graph of the Open Graph Benchmark with its official split.

    Hu et al. 2020, "Open Graph Benchmark: Datasets for Machine Learning on Graphs".
    """

    kind: Literal["ogb"] = "ogb"
    name: str = Field("ogbn-arxiv", description="Name of the graph in the benchmark.")
    root: str | None = Field(
        None,
        description=f"Folder of the benchmark's files; null for 'ogb' in ${DATA_VARIABLE} or in the cache folder.",
    )
    download: bool = Field(False, description="Whether to download missing files; some graphs take many gigabytes.")
    symmetrize: bool = Field(True, description="Add the reverse of every edge and drop repeated edges.")
    memory_map: MemoryMap = Field(
        "auto",
        description="Whether to cache the parsed graph in the folder 'dgl_rbm' beside the benchmark's files and to map "
        "its features from there, which takes seconds; 'auto' does so if they take 256 MiB or more.",
    )

    access: ClassVar[tuple[str, ...]] = ("root", "download", "memory_map")

    @property
    def graph_name(self) -> str:
        return self.name

    def load(self, seed: int) -> LabeledGraph:
        """Read the raw files, or the cached arrays; the seed is not used."""
        facts = self._facts()
        folder = self._folder(facts)
        kept, key = folder / "dgl_rbm", {"files": _states(folder), "recipe": _RECIPE}
        arrays = None if self.memory_map == "never" else read_arrays(kept, key, _KEPT)
        if arrays is None:
            arrays = self._parsed(folder, facts)
            if maps(self.memory_map, arrays["features"].nbytes):
                arrays = self._keep(arrays, kept, key)
        return LabeledGraph(
            name=self.graph_name,
            graph=from_compressed(arrays["indptr"], arrays["sources"]),
            features=arrays["features"],
            labels=arrays["labels"],
            num_classes=int(facts["num classes"]),
            train_idx=arrays["train"],
            val_idx=arrays["valid"],
            test_idx=arrays["test"],
            allow_missing_classes=True,
            _owns_graph=True,
        )

    def files(self) -> list[Path]:
        """Return the existing raw files."""
        return _raw_files(self._place())

    def fetch(self) -> None:
        """Download the graph, if it is missing and the option `download` is set."""
        if self.download:
            self._folder(self._facts())

    def _facts(self) -> dict[str, str]:
        package = _import_ogb("ogb")
        facts = _facts(self.name, Path(str(package.__file__)).parent / "nodeproppred" / "master.csv")
        self._check_kind(facts)
        return facts

    def _parsed(self, folder: Path, facts: dict[str, str]) -> dict[str, np.ndarray]:
        readers = _import_ogb("ogb.io.read_graph_raw")
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                content, labels, parts = _read(readers, folder, facts)
        except DAMAGE as error:
            raise DataError(
                f"The files of '{self.name}' in '{folder}' cannot be read: {type(error).__name__}: {error}.",
                hint="Remove the folder and set the option `download` to download it again.",
            ) from None
        if content["node_feat"] is None:
            raise DataError(f"The files of '{self.name}' in '{folder}' contain no node features.")
        source, destination = torch.from_numpy(content["edge_index"])
        indptr, sources = compressed(dgl.graph((source, destination), num_nodes=int(content["num_nodes"])))
        return {
            "indptr": indptr,
            "sources": sources,
            "features": content["node_feat"],
            "labels": labels,
            **dict(zip(_PARTS, parts, strict=True)),
        }

    def _keep(self, arrays: dict[str, np.ndarray], kept: Path, key: dict[str, Any]) -> dict[str, np.ndarray]:
        def write(place: Path) -> None:
            for name, array in arrays.items():
                np.save(place / f"{name}.npy", array, allow_pickle=False)

        try:
            return kept_arrays(kept, key, _KEPT, write)
        except OSError as error:
            if self.memory_map == "always":
                raise DataError(
                    f"'{self.name}' cannot be kept in '{kept}': {error.strerror or error}.",
                    hint="Set the option `memory_map` to 'never' to hold it in memory.",
                ) from None
            # Without a writable folder, the files are parsed at every load.
            return arrays

    def _check_kind(self, facts: dict[str, str]) -> None:
        reason = ""
        if facts["is hetero"] == "True":
            reason = "it has several types of nodes and edges"
        elif facts["task type"] != "multiclass classification" or facts["num tasks"] != "1":
            reason = f"its nodes have {facts['num tasks']} labels each ({facts['task type']})"
        if reason:
            raise DataError(
                f"'{self.name}' cannot be used: {reason}; expected one node type and one class per node.",
                hint="ogbn-arxiv, ogbn-products and ogbn-papers100M can be used.",
            )

    def _roots(self) -> list[Path]:
        if self.root is not None:
            return [Path(self.root).expanduser()]
        given = data_folder()
        return [cache_folder() / "ogb"] if given is None else [given / "ogb", cache_folder() / "ogb"]

    def _place(self) -> Path:
        """Return the folder of the graph, existing or not."""
        stem = self.name.replace("-", "_")
        places = [root / stem for root in self._roots()]
        return next(filter(Path.is_dir, places), places[-1])

    def _folder(self, facts: dict[str, str]) -> Path:
        folder = self._place()
        if not folder.is_dir():
            hint = (
                f"Put the benchmark's folder '{folder.name}' into '{folder.parent}' or into 'ogb' in ${DATA_VARIABLE}"
            )
            if not self.download:
                raise DatasetNotFoundError(
                    f"'{self.name}' is in none of {', '.join(map(str, self._roots()))}.",
                    hint=f"{hint}, or set the option `download` to true.",
                )
            download_folder(facts["url"], folder, inner=facts["download_name"], hint=f"{hint}.")
        release = f"RELEASE_v{facts['version']}.txt"
        if not (folder / release).is_file():
            raise DataError(
                f"The folder '{folder}' is not of release {facts['version']} of '{self.name}': it lacks '{release}'.",
                hint="Remove the folder and set the option `download` to download it again.",
            )
        return folder


def _import_ogb(name: str) -> ModuleType:
    """Import a module of `ogb` without its update check."""
    try:
        with without_update_check():
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"The Open Graph Benchmark's package cannot be imported: {error}.", hint="`pip install 'ogb>=1.3.6'`"
        ) from None


def _facts(name: str, table: Path) -> dict[str, str]:
    """Return the column of a graph in the table of the package, as a mapping."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names = rows[0][1:]
    if name not in names:
        raise UnknownNameError("OGB graph", name, names)
    column = names.index(name) + 1
    return {row[0]: row[column] for row in rows[1:]}


def _read(readers: Any, folder: Path, facts: dict[str, str]) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray]]:
    """Return the reader's graph, labels ``[N, 1]``, and the node ids of the three parts."""
    raw = folder / "raw"
    if facts["binary"] == "True":
        content = readers.read_binary_graph_raw(str(raw))[0]
        with np.load(raw / "node-label.npz", allow_pickle=False) as arrays:
            labels = arrays["node_label"]
    else:
        content = readers.read_csv_graph_raw(str(raw))[0]
        labels = _table(raw / "node-label.csv.gz")
    split = folder / "split" / facts["split"]
    return content, labels, [_table(split / f"{part}.csv.gz")[:, 0] for part in _PARTS]


def _raw_files(folder: Path) -> list[Path]:
    return sorted(path for part in ("raw", "split") for path in (folder / part).rglob("*") if path.is_file())


def _states(folder: Path) -> dict[str, list[int]]:
    """Return size and modification time of every raw file, to detect changes."""
    states = {path: path.stat() for path in _raw_files(folder)}
    return {str(path.relative_to(folder)): [state.st_size, state.st_mtime_ns] for path, state in states.items()}


def _table(path: Path) -> np.ndarray:
    import pandas as pd

    return pd.read_csv(path, compression="gzip", header=None).to_numpy()
