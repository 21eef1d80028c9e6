"""Dataset `digits`: a similarity graph of handwritten digits that ship with scikit-learn."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.registry import datasets

__all__ = ["DigitsConfig"]


@datasets.register
class DigitsConfig(DatasetConfig):
    """Similarity graph of 1,797 images of 8 × 8 pixels, each linked to its nearest neighbours; ten classes.

    Two images are linked if one is among the nearest of the other; of equally distant images, the first ones are the
    nearest. The images are the test part of the UCI "Optical Recognition of Handwritten Digits" data.
    """

    kind: Literal["digits"] = "digits"
    num_neighbors: int = Field(6, ge=1, le=1796, description="Number of nearest neighbours linked to each image.")

    def load(self, seed: int) -> LabeledGraph:
        """Return the graph; the seed is not used."""
        from sklearn.datasets import load_digits

        images = load_digits()
        nearest = _nearest(images.data, self.num_neighbors)
        linked = np.zeros((len(nearest), len(nearest)), dtype=bool)
        linked[np.arange(len(nearest))[:, None], nearest] = True
        source, destination = (linked | linked.T).nonzero()
        return LabeledGraph(
            name=self.graph_name,
            graph=dgl.graph((torch.from_numpy(source), torch.from_numpy(destination)), num_nodes=len(nearest)),
            features=torch.from_numpy(images.data / 16.0).float(),
            labels=torch.from_numpy(images.target).long(),
            num_classes=10,
            default_split="20/30",
        )


def _nearest(pixels: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest other images of each by Euclidean distance, ``[N, count]``; ties go to the smaller index.

    Parameters
    ----------
    pixels : ndarray
        Whole numbers from 0 to 16, float64 ``[N, 64]``. Squared distances are whole numbers up to 16,384, which float64
        holds exactly in any order of additions, so they are the same on any machine and number of threads.
    """
    squares = (pixels**2).sum(axis=1)
    distances = (squares[:, None] + squares - 2 * (pixels @ pixels.T)).astype(np.int16)
    np.fill_diagonal(distances, np.iinfo(np.int16).max)
    return np.argsort(distances, axis=1, kind="stable")[:, :count]
