"""What a run keeps of its graph: the nodes' ids, class names, split, and digests that identify the graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgl_rbm.data.splits import NodeSplit, SavedSplit
from dgl_rbm.errors import ArtifactError
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.runtime.checkpoint import read_state, write_state

if TYPE_CHECKING:
    from dgl_rbm.data.task import NodeTask

__all__ = ["TASK_FILE", "TaskRecord"]

TASK_FILE = "task.safetensors"
_PARTS = {
    "edges": "other edges",
    "features": "other features",
    "labels": "other labels",
    "ids": "other node ids",
}


@dataclass(frozen=True)
class TaskRecord:
    """Record of a task in a run's folder.

    Attributes
    ----------
    ids : NodeIds
        The nodes' own ids.
    classes : tuple of int or str
        The label that each class number stands for.
    split : SavedSplit
        Training, validation, test and unseen nodes.
    edges : int
        Number of edges.
    digests : dict of str to str
        Of `NodeTask.digests`.
    feature_names : tuple of str
        Names of the columns of the raw features; empty if they have none.
    """

    ids: NodeIds
    classes: tuple[int | str, ...]
    split: SavedSplit
    edges: int
    digests: dict[str, str]
    feature_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: NodeTask) -> TaskRecord:
        """Describe a task; reads its features once."""
        nodes = NodeSplit(task.train_idx, task.val_idx, task.test_idx)
        return cls(
            task.ids,
            task.classes,
            SavedSplit(nodes, task.unseen_idx),
            task.graph.num_edges(),
            task.digests(),
            task.feature_names,
        )

    def write(self, folder: Path) -> None:
        """Write the record to a run's folder."""
        nodes = self.split.nodes
        state = {
            "train_idx": nodes.train_idx,
            "val_idx": nodes.val_idx,
            "test_idx": nodes.test_idx,
            "unseen_idx": self.split.unseen_idx,
            "ids": self.ids.state_dict(),
        }
        about = {
            "classes": list(self.classes),
            "edges": self.edges,
            "digests": self.digests,
            "feature_names": list(self.feature_names),
        }
        write_state(folder / TASK_FILE, state, task=json.dumps(about))

    @classmethod
    def read(cls, folder: Path) -> TaskRecord | None:
        """Read the record of a run; None for a run of a former version, which has none.

        Raises
        ------
        ArtifactError
            If the file is damaged.
        """
        path = folder / TASK_FILE
        if not path.exists():
            return None
        state, header = read_state(path)
        try:
            about = json.loads(header["task"])
            nodes = NodeSplit(state["train_idx"], state["val_idx"], state["test_idx"])
            return cls(
                NodeIds.from_state(state["ids"]),
                tuple(about["classes"]),
                SavedSplit(nodes, state["unseen_idx"]),
                about["edges"],
                about["digests"],
                tuple(about["feature_names"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"'{path}' contains no task: {error!r}.") from None

    def check_size(self, graph: Any, what: str) -> None:
        """Raise an ArtifactError if `graph` has another number of nodes."""
        if graph.num_nodes() != len(self.ids):
            raise ArtifactError(f"{what} had {len(self.ids)} nodes; now it has {graph.num_nodes()}.")

    def check(self, task: NodeTask, what: str) -> None:
        """Raise an ArtifactError that names what differs between `task` and the task of the run."""
        self.check_size(task.graph, what)
        found = task.digests()
        changed = [text for part, text in _PARTS.items() if found[part] != self.digests.get(part)]
        if found["edges"] != self.digests.get("edges") and task.graph.num_edges() != self.edges:
            changed[0] = f"{task.graph.num_edges()} edges instead of {self.edges}"
        if changed:
            raise ArtifactError(f"{what} has changed since the run: it has {', '.join(changed)}.")
