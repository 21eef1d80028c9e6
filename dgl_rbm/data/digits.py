"""Dataset `digits`: a similarity graph of handwritten digits that ship with scikit-learn."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.registry import datasets

__all__ = ["DigitsConfig"]


@datasets.register
class DigitsConfig(DatasetConfig):
    """Similarity graph of 1,797 images of 8 × 8 pixels, each linked to its nearest neighbours; ten classes.

    The images are the test part of the UCI "Optical Recognition of Handwritten Digits" data.
    """

    kind: Literal["digits"] = "digits"
    num_neighbors: int = Field(6, ge=1, le=1796, description="Number of nearest neighbours linked to each image.")

    def load(self, seed: int) -> LabeledGraph:
        """Return the graph; the seed is not used."""
        from sklearn.datasets import load_digits
        from sklearn.neighbors import kneighbors_graph

        images = load_digits()
        pixels = images.data / 16.0
        nearest = kneighbors_graph(pixels, self.num_neighbors, mode="connectivity", include_self=False)
        source, destination = (nearest + nearest.T).nonzero()
        return LabeledGraph(
            name=self.graph_name,
            graph=dgl.graph(
                (torch.from_numpy(source).long(), torch.from_numpy(destination).long()), num_nodes=len(pixels)
            ),
            features=torch.from_numpy(pixels).float(),
            labels=torch.from_numpy(images.target).long(),
            num_classes=10,
            default_split="20/30",
        )
