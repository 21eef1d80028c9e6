"""Strict configs, overrides, registries, and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import Field

from dgl_rbm.config import ComponentConfig, StrictConfig, apply_overrides, read_yaml, validated
from dgl_rbm.errors import ConfigError, UnknownNameError, raise_problems
from dgl_rbm.registry import REGISTRIES, Registry
from dgl_rbm.run.config import DistillConfig, resolve_config
from dgl_rbm.specs import kind_of, resolve_dataset, resolve_encoders


class Inner(StrictConfig):
    width: int = Field(default=4, ge=1, description="Width.")


class Outer(ComponentConfig):
    kind: Literal["outer"] = "outer"
    inner: Inner = Inner()
    rate: float = Field(default=0.1, gt=0, description="Rate.")


def test_validation_lists_all_wrong_fields_with_path_and_closest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Outer, {"kind": "outer", "rat": 1, "rate": -1, "inner": {"widht": 3, "width": 0}}, where="student")
    message = str(caught.value)
    assert "4 wrong options" in message
    assert "student -> rat: no such option. Did you mean 'rate'?" in message
    assert "student -> inner -> widht: no such option. Did you mean 'width'?" in message
    assert "student -> rate: " in message
    assert "(got -1)" in message
    assert "student -> inner -> width: " in message


def test_configs_are_frozen_and_refuse_nan() -> None:
    config = Outer()
    with pytest.raises(ValueError, match="frozen"):
        config.rate = 0.5  # type: ignore[misc]
    with pytest.raises(ConfigError):
        validated(Outer, {"rate": float("nan")}, where="x")


def test_overrides_parse_yaml_scalars_and_expand_named_components() -> None:
    given = {"student": "rbm", "encoder": ["deepwalk", "diffusion"], "training": {"lr": 0.1}}
    changed = apply_overrides(
        given,
        [
            "student.num_experts=6",
            "training.lr=1e-3",
            "encoder.1.dim=8",
            "new.deep.value=[a, 2]",
            "seed=null",
            "x=true",
        ],
    )
    assert changed["student"] == {"kind": "rbm", "num_experts": 6}
    assert changed["training"] == {"lr": 0.001}
    assert changed["encoder"] == ["deepwalk", {"kind": "diffusion", "dim": 8}]
    assert changed["new"] == {"deep": {"value": ["a", 2]}}
    assert changed["seed"] is None
    assert changed["x"] is True
    assert given["student"] == "rbm", "the argument must not be modified"
    assert given["encoder"] == ["deepwalk", "diffusion"]


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("student.num_experts", "expected 'path.to.option=value'"),
        ("=3", "expected 'path.to.option=value'"),
        ("training.lr.x=3", "has no options"),
        ("encoder.7.dim=3", "not a position in a list of 1"),
        ("a=[1", "not valid YAML"),
        ("a=2026-13-45", "not valid YAML"),
        ("encoder.².dim=1", "not a position"),
    ],
)
def test_invalid_overrides_are_refused(assignment: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part.replace("[", r"\[")):
        apply_overrides({"training": {"lr": 0.1}, "encoder": ["none"]}, [assignment])


def test_unreadable_yaml_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        read_yaml(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: 1\nb: [1, 2\nc: 3\n")
    with pytest.raises(ConfigError, match="line 3"):
        read_yaml(broken)
    broken.write_text("- a\n")
    with pytest.raises(ConfigError, match="contains a list, expected a mapping"):
        read_yaml(broken)
    broken.write_text("seed: 2026-13-45\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(broken)
    broken.write_text("a: &a [*a]\n")
    with pytest.raises(ConfigError, match="refers to itself"):
        apply_overrides(read_yaml(broken), [])
    broken.write_text("")
    assert read_yaml(broken) == {}


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=lambda registry: registry.what)
def test_every_built_in_component_describes_its_options(registry: Registry) -> None:
    for name in registry.names():
        config = registry.config_class(name)
        assert (config.__doc__ or "").strip(), f"{name} has no docstring"
        for option, field in config.model_fields.items():
            assert option == "kind" or field.description, f"{registry.what} {name}: '{option}' has no description"


def test_registries_accept_names_mappings_and_configs() -> None:
    registry: Registry = Registry("thing", "dgl_rbm.students", {})
    registry.register(Outer)
    by_name = registry.resolve("outer")
    assert by_name == Outer()
    assert registry.resolve({"kind": "outer", "rate": 2.0}).rate == 2.0
    assert registry.resolve(by_name) is by_name
    with pytest.raises(UnknownNameError, match="Did you mean 'outer'"):
        registry.resolve("uoter")
    with pytest.raises(ConfigError, match="no 'kind'"):
        registry.resolve({"rate": 1.0})
    with pytest.raises(ConfigError, match="expected a name"):
        registry.resolve(3)  # type: ignore[arg-type]


def test_two_components_cannot_share_a_name() -> None:
    registry: Registry = Registry("thing", "dgl_rbm.students", {})
    registry.register(Outer)

    class Other(ComponentConfig):
        kind: Literal["outer"] = "outer"

    with pytest.raises(ConfigError, match="already registered"):
        registry.register(Other)


def test_resolving_a_configuration_reports_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(
            {"teacher": "sagge", "student": {"kind": "rbm", "top_k": 9, "num_experts": 3}, "seed": -1, "settin": "x"}
        )
    message = str(caught.value)
    for part in ("Did you mean 'sage'", "top_k", "seed", "settin", "Did you mean 'setting'"):
        assert part in message


def test_a_configuration_round_trips_through_yaml() -> None:
    config = resolve_config({"student": {"kind": "rbm", "num_experts": 4}, "encoder": "deepwalk+diffusion"})
    again = resolve_config(yaml.safe_load(yaml.safe_dump(config.to_values())))
    assert again == config
    assert isinstance(again, DistillConfig)


def test_dataset_names_and_paths_resolve_to_configs(tmp_path: Path) -> None:
    assert resolve_dataset("digits").kind == "digits"
    ogb = resolve_dataset({"kind": "ogbn-arxiv"})
    assert (ogb.kind, ogb.name) == ("ogb", "ogbn-arxiv")  # type: ignore[attr-defined]
    assert resolve_dataset("some/graph.bin").kind == "file"
    assert resolve_dataset(str(tmp_path)).kind == "csv"
    with pytest.raises(UnknownNameError, match="Did you mean 'cora'"):
        resolve_dataset("coar")


def test_kinds_of_names_mappings_and_configs() -> None:
    assert [kind_of(spec) for spec in ("rbm", {"kind": "rbm"}, Outer(), {"rate": 1}, 3, None)] == [
        "rbm",
        "rbm",
        "outer",
        None,
        None,
        None,
    ]


def test_plus_joins_encoders() -> None:
    assert [config.kind for config in resolve_encoders("deepwalk + diffusion")] == ["deepwalk", "diffusion"]
    assert [config.kind for config in resolve_encoders(["none", {"kind": "deepwalk"}])] == ["none", "deepwalk"]


def test_several_problems_are_numbered() -> None:
    raise_problems([], ConfigError, "It")
    with pytest.raises(ConfigError, match="It cannot be used: one"):
        raise_problems(["one"], ConfigError, "It")
    with pytest.raises(ConfigError, match=r"for 2 reasons:\n  1. one\n  2. two"):
        raise_problems(["one", "two"], ConfigError, "It")


class Renamed(StrictConfig):
    former_names = {"hight": "height"}

    height: int = Field(default=1, ge=1, description="Height.")


def test_former_option_names_are_read_but_not_written() -> None:
    assert validated(Renamed, {"hight": 3}, where="").model_dump() == {"height": 3}
    with pytest.raises(ConfigError, match="'hight' is the former name of 'height'"):
        validated(Renamed, {"hight": 3, "height": 4}, where="")
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        validated(Renamed, {"hight": 0}, where="")


def test_options_are_keyword_arguments_of_the_module() -> None:
    assert Outer(rate=0.5).options() == {"inner": Inner(), "rate": 0.5}
    assert Outer().options(without=["inner"]) == {"rate": 0.1}
