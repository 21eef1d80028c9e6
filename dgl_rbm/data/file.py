"""Dataset `file`: a user's graph saved by `dgl.save_graphs`, and the base of datasets with node fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.files import DAMAGE, map_features
from dgl_rbm.data.make import labeled_graph
from dgl_rbm.data.options import MOST_CLASSES
from dgl_rbm.errors import DataError, DatasetNotFoundError
from dgl_rbm.registry import datasets

__all__ = ["FieldsConfig", "FileConfig"]


class FieldsConfig(DatasetConfig):
    """Base of the datasets with features, labels and masks as node fields."""

    paths: ClassVar[Any] = ("path", "features_path")

    path: str = Field(description="File or folder of the graph.")
    features: str | list[str] = Field(
        "feat",
        description="Node field of the features; a list, or a pattern such as 'feat_*', for several side by side.",
    )
    features_path: str | None = Field(
        None,
        description="A .npy file with one row of features per node, which replaces the node field; a float32 file is "
        "mapped and may be larger than memory.",
    )
    labels: str = Field("label", description="Node field of the labels; −1 for a node without label.")
    node_ids: str | None = Field(
        None, description="Node field of the nodes' own ids; null for the positions in the graph."
    )
    train_mask: str = Field("train_mask", description="Node field of the training mask.")
    val_mask: str = Field("val_mask", description="Node field of the validation mask.")
    test_mask: str = Field("test_mask", description="Node field of the test mask.")
    edge_weight: str | None = Field(
        None,
        description="Edge field of the weights; null for the field 'weight' if there is one, '' to use no weights.",
    )
    split_index: int | None = Field(
        None, description="Which of several masks [N, K] or [K, N] to use, counted from 0; null for masks of one split."
    )
    allow_missing_classes: bool = Field(
        False, description="Whether the masks may leave a class without a training node."
    )
    num_classes: int | None = Field(
        None, ge=2, le=MOST_CLASSES, description="Number of classes; null for the number of distinct labels."
    )

    @property
    def graph_name(self) -> str:
        return Path(self.path).expanduser().stem

    def load(self, seed: int) -> LabeledGraph:
        """Read the graph; the masks are ignored if the option `split` is set."""
        features: Any = self.features
        if self.features_path is not None:
            features = map_features(Path(self.features_path).expanduser())
        return labeled_graph(
            self.read_graph(Path(self.path).expanduser()),
            name=self.graph_name,
            features=features,
            labels=self.labels,
            masks=None if self.split else (self.train_mask, self.val_mask, self.test_mask),
            num_classes=self.num_classes,
            node_ids=self.node_ids,
            edge_weight=self.edge_weight,
            split_index=None if self.split else self.split_index,
            allow_missing_classes=self.allow_missing_classes,
        )

    def files(self) -> list[Path]:
        """Return the existing files of the graph and its features."""
        features = [] if self.features_path is None else [Path(self.features_path).expanduser()]
        return [path for path in (*self.graph_files(Path(self.path).expanduser()), *features) if path.is_file()]

    def graph_files(self, path: Path) -> list[Path]:
        """Return the files of the graph at `path`."""
        return [path]

    def read_graph(self, path: Path) -> Any:
        """Return the graph at `path`."""
        raise NotImplementedError


@datasets.register
class FileConfig(FieldsConfig):
    """A graph saved by `dgl.save_graphs`, with features, labels and masks as node fields."""

    kind: Literal["file"] = "file"
    index: int = Field(0, ge=0, description="Index of the graph in the file.")

    def read_graph(self, path: Path) -> Any:
        """Return the graph at `path`."""
        if not path.is_file():
            raise DatasetNotFoundError(
                f"There is no graph file '{path}'.", hint=f"`dgl.save_graphs('{path}', [graph])` writes one."
            )
        try:
            graphs, _ = dgl.load_graphs(str(path))
        except (*DAMAGE, dgl.DGLError) as error:
            raise DataError(
                f"The file '{path}' is truncated or not written by `dgl.save_graphs`: {_first_line(error)}",
                hint=f"`dgl.save_graphs('{path}', [graph])` writes such a file.",
            ) from None
        if self.index >= len(graphs):
            raise DataError(f"The file '{path}' contains {len(graphs)} graphs; there is none of index {self.index}.")
        return graphs[self.index]


def _first_line(error: Exception) -> str:
    """Return the message of an error by DGL without the C++ stack trace that follows."""
    return str(error).strip().split("\n", maxsplit=1)[0]
