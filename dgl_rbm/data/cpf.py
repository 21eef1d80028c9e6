"""Datasets of the CPF protocol: citation, co-purchase and co-author graphs from ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field

from dgl_rbm.data.archives import Archive
from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.files import DATA_VARIABLE, cache_folder, data_folder, download
from dgl_rbm.data.npz_layouts import read_matrix
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
        with Archive(path, hint="Remove it; the next run downloads it again.") as archive:
            stored = read_matrix(archive)
        adjacency = stored.adjacency.astype(bool)
        adjacency = (adjacency + adjacency.T).tocsr()
        kept = _largest_component(adjacency)
        source, destination = adjacency[kept][:, kept].nonzero()
        proper = source != destination
        attributes = stored.attributes[kept].astype(bool).astype(np.float32)
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
            labels=torch.from_numpy(stored.labels[kept].astype(np.int64)),
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


def _largest_component(adjacency: sp.csr_matrix) -> np.ndarray:
    """Return the ascending ids of the nodes of the largest connected component."""
    _, component = sp.csgraph.connected_components(adjacency, directed=False)
    return np.flatnonzero(component == np.bincount(component).argmax())
