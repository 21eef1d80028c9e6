"""The accuracies that the RbM paper prints, to be shown beside those of a comparison."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from dgl_rbm.methods import load_method, method_names

__all__ = ["PublishedResult", "published_dataset", "published_result", "published_results"]

_FILE = "published_results.csv"
# The paper's graphs of these names are those of the CPF files; Planetoid's have other nodes and another split.
_CPF_ONLY = ("cora", "citeseer", "pubmed")


@dataclass(frozen=True)
class PublishedResult:
    """One accuracy of the RbM paper (Transactions on Machine Learning Research 10/2024).

    Attributes
    ----------
    paper_table : int
        The table it stands in.
    dataset, setting, teacher, method : str
        Names as in ``published_results.csv``; a teacher's own result has its kind for a method.
    mean : float
        Test accuracy in percent, partly of the epoch that was best on the test nodes.
    std : float or None
        Its standard deviation, if the paper prints one.
    """

    paper_table: int
    dataset: str
    setting: str
    teacher: str
    method: str
    mean: float
    std: float | None


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Return every accuracy of the paper's tables."""
    text = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return tuple(
        PublishedResult(
            paper_table=int(row["paper_table"]),
            dataset=row["dataset"],
            setting=row["setting"],
            teacher=row["teacher"],
            method=row["method"],
            mean=float(row["mean_accuracy"]),
            std=float(row["std"]) if row["std"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    )


def published_dataset(dataset: str) -> str | None:
    """Return the paper's name of a dataset of this package; None if the paper has other data.

    ``"cora"``, ``"citeseer"`` and ``"pubmed"`` are Planetoid's here, and the CPF files' in the paper.
    """
    return None if dataset in _CPF_ONLY else dataset.removeprefix("cpf-")


def published_result(method: str, dataset: str, setting: str, teacher: str) -> PublishedResult | None:
    """Return the paper's result for a method of this package, None if it has none.

    Parameters
    ----------
    method : str
        A method's name, a name in the paper's tables such as ``"rbm-kd-only"``, or a teacher's kind.
    dataset, setting : str
        Names here.
    teacher : str
        Its kind. The paper lists methods without a teacher, ``"none"``, beside those with the teacher ``"sage"``.
    """
    name = method
    if method in method_names():
        reference = load_method(method).published
        if reference is None:
            return None
        name = reference.method
    wanted = (published_dataset(dataset), setting, "sage" if teacher == "none" else teacher, name)
    found = [row for row in published_results() if (row.dataset, row.setting, row.teacher, row.method) == wanted]
    # The same figure stands in several tables; the first one is the comparison that it was made for.
    return min(found, key=lambda row: row.paper_table) if found else None
