"""Dataset `file`: a user's graph saved by `dgl.save_graphs`, and the base of datasets with node fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from dgl_rbm.data.base import DatasetConfig, LabeledGraph
from dgl_rbm.data.checks import graph_problems
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.files import DAMAGE, map_features
from dgl_rbm.data.make import labeled_graph
from dgl_rbm.data.options import MOST_CLASSES
from dgl_rbm.data.recognition import GRAPH_MAGIC, missing, unusable
from dgl_rbm.errors import DataError
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

    def files(self) -> list[Path]:
        """Return the existing files of the graph and its features."""
        features = [] if self.features_path is None else [Path(self.features_path).expanduser()]
        return [path for path in (*self.graph_files(Path(self.path).expanduser()), *features) if path.is_file()]

    def graph_files(self, path: Path) -> list[Path]:
        """Return the files of the graph at `path`."""
        return [path]


# Entries of the file's own dictionary that are read as labels if no node field is named `label`.
_LABEL_NAMES = ("label", "labels", "node_label", "node_labels", "y", "glabel")
_EXPECTED = "a graph saved by `dgl.save_graphs`"
_MOST_LISTED = 10
_CHOOSE = "Choose one, counted from 0: --set dataset.graph_index={}, or `graph_index` of the dataset in Python."
_SAVE_ALONE = "Save the graph to predict in a file of its own: `dgl.save_graphs(path, [graph])`."


@datasets.register
class FileConfig(FieldsConfig):
    """A graph saved by `dgl.save_graphs`, with features, labels and masks as node fields.

    Tensors in the file's own dictionary, ``dgl.save_graphs(path, [graph], {"labels": labels})``, that have one row per
    node count as node fields too. If there is no field of the name `label`, the first of ``label``, ``labels``,
    ``node_label``, ``node_labels``, ``y`` and ``glabel`` in the dictionary contains the labels.
    """

    kind: Literal["file"] = "file"
    graph_index: int | None = Field(
        None, ge=0, description="Which of several graphs in the file to use, counted from 0; null for a single graph."
    )

    former_names: ClassVar[Mapping[str, str]] = {"index": "graph_index"}

    def load(self, seed: int) -> LabeledGraph:
        """Read the graph; the masks are ignored if the option `split` is set."""
        features: Any = self.features
        if self.features_path is not None:
            features = map_features(Path(self.features_path).expanduser())
        graph, notes = self.read(Path(self.path).expanduser())
        source = labeled_graph(
            graph,
            name=self.graph_name,
            features=features,
            labels=self.labels,
            masks=(self.train_mask, self.val_mask, self.test_mask),
            uses_masks=not self.split,
            num_classes=self.num_classes,
            node_ids=self.node_ids,
            edge_weight=self.edge_weight,
            split_index=None if self.split else self.split_index,
            allow_missing_classes=self.allow_missing_classes,
        )
        return replace(source, notes=(*source.notes, *notes))

    def read_graph(self, path: Path) -> Any:
        """Return the graph to predict at `path`, with the tensors of the file's dictionary as node fields.

        The only graph of a file is read whatever the option `graph_index`, which is that of the training graph's file.
        """
        graphs, tensors = _loaded(path)
        graph = graphs[0] if len(graphs) == 1 else self._chosen(path, graphs, _SAVE_ALONE)
        return self._with_fields(graph, tensors)[0]

    def read(self, path: Path) -> tuple[Any, tuple[str, ...]]:
        """Return the graph at `path`, with the tensors of the file's dictionary as node fields, and notes."""
        graphs, tensors = _loaded(path)
        return self._with_fields(self._chosen(path, graphs, _CHOOSE.format(len(graphs) - 1)), tensors)

    def _with_fields(self, graph: Any, tensors: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
        if graph_problems(graph):
            return graph, ()
        added = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in graph.ndata and tensor.dim() and len(tensor) == graph.num_nodes()
        }
        graph.ndata.update(added)
        notes = [
            f"the entry '{name}' of the file's dictionary, of shape {tuple(tensor.shape)}, is not used."
            for name, tensor in tensors.items()
            if name not in added
        ]
        if self.labels == FieldsConfig.model_fields["labels"].default and self.labels not in graph.ndata:
            found = next((name for name in _LABEL_NAMES if name in added), None)
            if found is not None:
                graph.ndata[self.labels] = added[found]
                notes.append(f"the labels are the entry '{found}' of the file's dictionary.")
        return graph, tuple(notes)

    def _chosen(self, path: Path, graphs: list[Any], hint: str) -> Any:
        if self.graph_index is None and len(graphs) == 1:
            return graphs[0]
        if not graphs:
            raise DataError(f"The file '{path}' contains no graph.", hint="`dgl.save_graphs(path, [graph])` saves one.")
        if self.graph_index is not None and self.graph_index < len(graphs):
            return graphs[self.graph_index]
        sizes = [
            f"{i}: {graph.num_nodes():,} nodes, {graph.num_edges():,} edges"
            for i, graph in enumerate(graphs[:_MOST_LISTED])
        ]
        count = f"{len(graphs)} graph{'s' if len(graphs) > 1 else ''}"
        wanted = "expected one" if self.graph_index is None else f"there is none of index {self.graph_index}"
        raise DataError(
            f"The file '{path}' contains {count}; {wanted}. "
            f"{'; '.join(sizes)}{'; ...' if len(graphs) > _MOST_LISTED else ''}.",
            hint=hint,
        )


def _loaded(path: Path) -> tuple[list[Any], dict[str, Any]]:
    """Return the graphs and the dictionary of tensors of a file of `dgl.save_graphs`."""
    if not path.exists():
        raise missing(path, "graph file")
    try:
        with path.open("rb") as file:
            if file.read(len(GRAPH_MAGIC)) != GRAPH_MAGIC:
                raise unusable(path, _EXPECTED)
    except OSError:
        raise unusable(path, _EXPECTED) from None
    try:
        graphs, tensors = dgl.load_graphs(str(path))
    except (*DAMAGE, dgl.DGLError):
        raise unusable(path, _EXPECTED, found="is truncated or damaged: DGL cannot read it.") from None
    return graphs, tensors
