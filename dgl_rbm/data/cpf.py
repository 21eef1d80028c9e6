"""Datasets of the CPF protocol: citation, co-purchase and co-author graphs from ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.files import DAMAGE, DATA_VARIABLE, cache_folder, data_folder, download
from dgl_rbm.errors import DataError
from dgl_rbm.registry import datasets

__all__ = ["CpfConfig"]

_FILES = {
    "cpf-cora": "cora.npz",
    "cpf-citeseer": "citeseer.npz",
    "cpf-pubmed": "pubmed.npz",
    "amazon-computers": "amazon_electronics_computers.npz",
    "amazon-photo": "amazon_electronics_photo.npz",
    "academic-cs": "ms_academic_cs.npz",
    "academic-physics": "ms_academic_phy.npz",
}


@datasets.register
class CpfConfig(DatasetConfig):
    """Largest connected component of a citation, co-purchase or co-author graph; 20 training nodes per class.

    Files by Shchur et al. 2018, "Pitfalls of Graph Neural Network Evaluation"; protocol by Yang et al. 2021,
    "Extract the Knowledge of Graph Neural Networks and Go Beyond it" (CPF): edges in both directions and without
    self-loops, features as presence or absence, rows divided by their sum, 20 training and 30 validation nodes
    per class.
    """

    kind: Literal[
        "cpf-cora",
        "cpf-citeseer",
        "cpf-pubmed",
        "amazon-computers",
        "amazon-photo",
        "academic-cs",
        "academic-physics",
    ]
    url: str = Field(
        "https://raw.githubusercontent.com/shchur/gnn-benchmark/master/data/npz/",
        description="URL of the folder from which missing files are downloaded.",
    )

    access: ClassVar[tuple[str, ...]] = ("url",)

    def load(self, seed: int) -> LabeledGraph:
        """Read the graph from its file; the seed is not used."""
        self.fetch()
        (path,) = self.files()
        adjacency, attributes, labels = _read(path)
        adjacency = adjacency.astype(bool)
        adjacency = (adjacency + adjacency.T).tocsr()
        kept = _largest_component(adjacency)
        source, destination = adjacency[kept][:, kept].nonzero()
        proper = source != destination
        attributes = attributes[kept].astype(bool).astype(np.float32)
        return LabeledGraph(
            name=self.graph_name,
            graph=dgl.graph(
                (
                    torch.from_numpy(source[proper].astype(np.int64)),
                    torch.from_numpy(destination[proper].astype(np.int64)),
                ),
                num_nodes=len(kept),
            ),
            features=attributes,
            labels=torch.from_numpy(labels[kept].astype(np.int64)),
            default_split="20/30",
            normalize="row",
        )

    def files(self) -> list[Path]:
        """Return the file of the graph, if it is on disk."""
        name = _FILES[self.kind]
        given = data_folder()
        target = cache_folder() / "cpf" / name
        places = [target] if given is None else [given / "cpf" / name, given / name, target]
        return [path for path in places if path.is_file()][:1]

    def fetch(self) -> None:
        """Download the file if it is missing; raise a DatasetNotFoundError if that fails."""
        if self.files():
            return
        name = _FILES[self.kind]
        download(
            f"{self.url.rstrip('/')}/{name}",
            cache_folder() / "cpf" / name,
            hint=f"Put '{name}' of the repository shchur/gnn-benchmark into a folder and set {DATA_VARIABLE} to it; "
            "`digits` and `synthetic` need no download.",
        )


def _read(path: Path) -> tuple[sp.csr_matrix, Any, np.ndarray]:
    """Return adjacency ``[N, N]``, attributes ``[N, F]`` (sparse) and labels ``[N]``."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            adjacency = _matrix(arrays, "adj", path)
            attributes = _matrix(arrays, "attr", path)
            if "labels" not in arrays:
                raise _lacks("labels", arrays, path)
            labels = arrays["labels"]
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(
            f"The file '{path}' is damaged or not a NumPy archive: {error}.",
            hint="Remove it; the next run downloads it again.",
        ) from None
    count = len(labels)
    if adjacency.shape != (count, count) or attributes.shape[0] != count or labels.ndim != 1:
        raise DataError(
            f"The arrays of '{path}' do not match: adjacency {adjacency.shape}, attributes "
            f"{attributes.shape}, labels {labels.shape}."
        )
    return adjacency, attributes, labels


def _matrix(arrays: Any, prefix: str, path: Path) -> sp.csr_matrix:
    if f"{prefix}_matrix" in arrays:
        return sp.csr_matrix(arrays[f"{prefix}_matrix"])
    names = [f"{prefix}_{part}" for part in ("data", "indices", "indptr", "shape")]
    for name in names:
        if name not in arrays:
            raise _lacks(name, arrays, path)
    data, indices, indptr, shape = (arrays[name] for name in names)
    matrix = sp.csr_matrix((data, indices, indptr), shape=tuple(shape))
    matrix.check_format(full_check=True)
    matrix.sum_duplicates()
    return matrix


def _lacks(name: str, arrays: Any, path: Path) -> DataError:
    return DataError(f"The file '{path}' lacks the array '{name}'; it contains {', '.join(sorted(arrays))}.")


def _largest_component(adjacency: sp.csr_matrix) -> np.ndarray:
    """Return the ascending ids of the nodes of the largest connected component."""
    _, component = sp.csgraph.connected_components(adjacency, directed=False)
    return np.flatnonzero(component == np.bincount(component).argmax())
