"""Values of the published recipe: those of the published code, stated so that no default of the package moves them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from dgl_rbm.methods import load_method
from dgl_rbm.run.config import resolve_config

GRAPHS = ("cora", "amazon-photo", "academic-cs")
METHODS = ("rbm", "krd", "nosmog", "moe", "ensemble3", "ensemble8")
PLACES = list(itertools.product(GRAPHS, METHODS, ("transductive", "inductive")))
# How a step is computed, or a structure of the component that is the same in all methods.
NEUTRAL = {
    "eval_every",
    "sampler",
    "batch_size",
    "sampling_device",
    "precision",
    "aggregator",
    "width_factor",
    "samples",
}


def unstated(config: BaseModel, stated: Any) -> Iterator[str]:
    """Yield the options that are switched on and that the recipe does not state."""
    for name in type(config).model_fields:
        value, given = getattr(config, name), stated.get(name)
        if isinstance(value, BaseModel):
            yield from (f"{name}.{inner}" for inner in unstated(value, given or {}))
        elif name not in stated and name not in NEUTRAL and value not in (None, False, 0):
            yield name


@pytest.mark.parametrize(("graph", "method", "setting"), PLACES)
def test_every_option_that_is_on_is_stated(graph: str, method: str, setting: str) -> None:
    values = load_method(method).values(graph, setting)
    config: Any = resolve_config(values | {"setting": setting})
    found = [
        f"{section}.{name}"
        for section in ("dataset", "teacher", "student", "objective", "training")
        for name in unstated(getattr(config, section), values[section])
        if not (section == "dataset" and name == "url")
    ]
    for section in ("encoder", "regularizer"):
        for part, stated in zip(getattr(config, section), values[section], strict=True):
            if part.kind != "none":
                found += [f"{section}.{part.kind}.{name}" for name in unstated(part, stated)]
    assert not found, f"{found} would follow the defaults of the package: state them in methods/published.py"


@pytest.mark.parametrize(("graph", "method", "setting"), PLACES)
def test_training_is_that_of_the_published_code(graph: str, method: str, setting: str) -> None:
    config: Any = resolve_config(load_method(method).values(graph, setting) | {"setting": setting})
    for training in (config.training, config.teacher.training):
        assert (training.optimizer, training.warmup_steps) == ("adam", 0)
        assert training.patience == 50
    assert (config.training.select_by, config.teacher.training.select_by) == ("accuracy", "loss")
    assert (config.training.averaging, config.training.schedule) == (0, "constant")
    assert config.teacher.training.epochs == 500
    assert config.dataset.rescale is False
    assert config.dataset.normalize == ("row" if graph == "cora" else "none")
