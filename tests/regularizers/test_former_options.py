"""Losses under ``objective`` in former configurations, and the list of regularizers in its several forms."""

from __future__ import annotations

from typing import Any

import pytest

from dgl_rbm import Distiller
from dgl_rbm.errors import ConfigError
from dgl_rbm.regularizers.krd import KrdConfig
from dgl_rbm.regularizers.none import NoRegularizer
from dgl_rbm.run.config import resolve_config
from dgl_rbm.specs import with_overrides


def kinds(**values: Any) -> list[str]:
    return [part.kind for part in resolve_config(values).regularizer]


def test_one_several_and_none() -> None:
    assert kinds() == ["krd"]
    assert kinds(regularizer="krd+similarity") == ["krd", "similarity"]
    assert kinds(regularizer={"kind": "edge_consistency", "weight": 0.1}) == ["edge_consistency"]
    assert kinds(regularizer=["krd", {"kind": "similarity", "weight": 2.0}]) == ["krd", "similarity"]
    assert kinds(regularizer=KrdConfig(weight=0.5)) == ["krd"]
    assert kinds(regularizer=[]) == kinds(regularizer="none") == ["none"]
    distiller = Distiller(regularizer=["krd", NoRegularizer()])
    assert [part.kind for part in distiller.config.regularizer] == ["krd", "custom"]
    with pytest.raises(ConfigError, match="'krd' is listed twice"):
        kinds(regularizer="krd+none+krd")


@pytest.mark.parametrize(
    ("former", "expected"),
    [
        ({"similarity": {"weight": 0.5, "rows": 7}}, [{"kind": "similarity", "weight": 0.5, "rows": 7}]),
        ({"adversarial": {"weight": 0.2}}, [{"kind": "adversarial", "weight": 0.2}]),
        ({"pseudo_labels": {"rounds": 2, "smooth": True}}, [{"kind": "pseudo_labels", "rounds": 2, "smooth": True}]),
        ({"similarity": {"weight": 0, "rows": 7}, "adversarial": {}, "pseudo_labels": {"rounds": 0}}, []),
    ],
)
@pytest.mark.parametrize("regularizer", ["none", "edge_consistency"])
def test_losses_under_the_objective_are_read_as_regularizers(
    regularizer: str, former: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    config = resolve_config({"regularizer": regularizer, "objective": {"temperature": 2.0, **former}})
    before = [] if regularizer == "none" and expected else [regularizer]
    assert config == resolve_config({"regularizer": [*before, *expected], "objective": {"temperature": 2.0}})


def test_wrong_options_of_former_losses_are_errors() -> None:
    for former in ({"similarity": {"weight": -1}}, {"similarity": {"row": 2}}, {"pseudo_labels": {"confidence": 2}}):
        with pytest.raises(ConfigError, match=r"weight|row|confidence"):
            resolve_config({"objective": former})
    with pytest.raises(ConfigError, match="'similarity' is a regularizer of this configuration") as caught:
        resolve_config({"regularizer": "krd+similarity", "objective": {"similarity": {"weight": 3}}})
    assert "--set regularizer.1.weight=3" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("regularizer", "assignments"),
    [
        ("krd", ["regularizer.weight=0.5"]),
        ("krd", ["regularizer.0.weight=0.5"]),
        (["krd"], ["regularizer.weight=0.5"]),
        ({"kind": "krd"}, ["regularizer.0.weight=0.5"]),
        ("none", ["regularizer=krd", "regularizer.0.weight=0.5"]),
        ("none", ["regularizer.kind=krd", "regularizer.weight=0.5"]),
    ],
)
def test_assignments_set_the_only_regularizer_with_or_without_its_position(
    regularizer: Any, assignments: list[str]
) -> None:
    assert with_overrides({"regularizer": regularizer}, assignments)["regularizer"] == [{"kind": "krd", "weight": 0.5}]


def test_assignments_name_one_of_several_by_its_position() -> None:
    values = with_overrides({"regularizer": "krd+similarity"}, ["regularizer.1.rows=9"])
    assert values["regularizer"] == ["krd", {"kind": "similarity", "rows": 9}]
    with pytest.raises(ConfigError, match="'rows' is not a position in a list of 2"):
        with_overrides({"regularizer": "krd+similarity"}, ["regularizer.rows=9"])
    assert with_overrides({"encoder": ["diffusion"]}, ["encoder.dim=4"])["encoder"] == [{"kind": "diffusion", "dim": 4}]
