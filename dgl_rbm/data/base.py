"""Base of the datasets' configs, and the `LabeledGraph` that they load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.splits import parse_split

__all__ = ["DEFAULT_UNSEEN_FRACTION", "DatasetConfig", "LabeledGraph", "NormalizationKind"]

NormalizationKind = Literal["none", "row", "standard"]

DEFAULT_UNSEEN_FRACTION = 0.2


@dataclass(frozen=True)
class LabeledGraph:
    """Graph with features and labels, before the checks of `dgl_rbm.data.build.build_task`.

    Attributes
    ----------
    name : str
        The dataset's name.
    graph : dgl.DGLGraph
        Homogeneous; its node and edge fields are not read.
    features : array-like
        Numbers ``[N, F]``: a tensor, a NumPy array, a SciPy sparse matrix or `SparseRows`.
    labels : array-like
        Classes ``[N]``: class numbers, other integers or text; −1, NaN or empty text for a node without label.
    num_classes : int or None
        C; None for the number of distinct labels.
    train_idx, val_idx, test_idx : array-like or None
        The dataset's own split, as masks ``[N]`` or the nodes' own ids; None if it has none.
    default_split : str or None
        The split to draw if the dataset has no own split, such as ``"20/30"``.
    unseen_fraction : float
        Share of the test nodes of the dataset's own or default split that the inductive setting hides.
    normalize : {"none", "row", "standard"}
        Feature normalisation, unless an option overrides it.
    allow_missing_classes : bool
        Whether the dataset's own split may leave a class without a training node.
    problems : tuple of str
        Problems found while reading; reported together with those that the checks find.
    split_index : int or None
        Which of several masks ``[N, K]`` or ``[K, N]`` to use.
    node_ids : array-like or None
        The nodes' own ids, integers or text ``[N]``, without repetition; None for 0 to N − 1.
    classes : sequence of int or str, or None
        Names of the class numbers 0 to C − 1; None for the labels themselves.
    edge_weight : array-like or None
        Numbers from 0 on, ``[E]``, in the order of ``graph.edges()``; None for an unweighted graph.
    notes : tuple of str
        What is not used or was read in another form, one sentence each.
    feature_names : tuple of str
        Names of the columns of `features`; empty for those of a table, or none.
    """

    name: str
    graph: Any
    features: Any
    labels: Any
    num_classes: int | None = None
    train_idx: Any = None
    val_idx: Any = None
    test_idx: Any = None
    default_split: str | None = None
    unseen_fraction: float = DEFAULT_UNSEEN_FRACTION
    normalize: NormalizationKind = "none"
    allow_missing_classes: bool = False
    problems: tuple[str, ...] = ()
    split_index: int | None = None
    node_ids: Any = None
    classes: Sequence[int | str] | None = None
    edge_weight: Any = None
    notes: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    # Whether nothing else refers to the graph's arrays, so that a task may keep them without a copy.
    _owns_graph: bool = field(default=False, repr=False)


class DatasetConfig(ComponentConfig):
    """Base of the datasets' configs, with the options that all of them share."""

    split: str | None = Field(
        None,
        description="Training, validation and test nodes: '0.6/0.2/0.2' for fractions of the labelled nodes of "
        "each class, '20/30' for that many training and validation nodes per class and the rest for testing, "
        "null for the dataset's own split.",
    )
    unseen_fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the test nodes that the inductive setting hides from training; null for the "
        "dataset's own: all of them for a public Planetoid split, 0.2 otherwise.",
    )
    normalize: NormalizationKind | None = Field(
        None,
        description="Feature normalisation: 'none', 'row' (rows divided by their sum of absolute values) or "
        "'standard' (columns of mean 0 and deviation 1 over the observed nodes); null for the dataset's own.",
    )
    rescale: bool = Field(
        True,
        description="Scale the normalised features by one factor to a root mean square length of 1 over the "
        "observed rows, if it is below 0.5, as for row-normalised bags of words.",
    )
    symmetrize: bool = Field(
        False,
        description="Add the reverse of every edge and drop repeated edges, for graphs stored as directed.",
    )

    @field_validator("split")
    @classmethod
    def _split_parses(cls, text: str | None) -> str | None:
        if text is not None:
            parse_split(text)
        return text

    # Options that set where files are and how they are read; they do not change the graph.
    access: ClassVar[tuple[str, ...]] = ()

    @property
    def graph_name(self) -> str:
        """Name of the graph that `load` returns; published settings are found by it."""
        return self.kind

    def task_options(self) -> dict[str, Any]:
        """Return the options that all datasets share, as the keyword arguments of `build_task`."""
        return {name: getattr(self, name) for name in DatasetConfig.model_fields if name != "kind"}

    def files(self) -> list[Path]:
        """Return the files on disk that `load` reads; an empty list for generated graphs and missing files."""
        return []

    def fetch(self) -> None:
        """Download the files that `load` reads, if they are missing and the dataset can download them.

        Raises
        ------
        DatasetNotFoundError
            If the download fails.
        """

    def load(self, seed: int) -> LabeledGraph:
        """Read or generate the graph.

        Parameters
        ----------
        seed : int
            Seed for datasets that draw anything themselves; `build_task` draws the split.

        Raises
        ------
        DatasetNotFoundError
            If the files are missing and cannot be downloaded.
        DataError
            If they are damaged or have another content.
        """
        raise NotImplementedError
