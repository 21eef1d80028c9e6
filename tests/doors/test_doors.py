"""Every door accepts a bad input with the right result, or refuses it with an error of the package."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from odd_values import outcome
from strategies import Door, doors

# A damaged file of DGL's own format may end the process in C++; the benchmark uses a process for each of them.
_NAMES = [
    "make_task",
    "task_from_graph",
    "from_pandas",
    "from_arrays",
    "Predictor",
    "Distiller",
    "Distiller.fit",
    "Distiller.from_method",
    "fields of configs",
    "YAML texts",
    "--set",
    "experiment options",
    "prediction tables",
    "CSV folders",
    "graph files",
    "run folders",
]


@pytest.fixture(scope="module")
def all_doors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    return {door.name: door for door in doors(tmp_path_factory.mktemp("doors"))}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _NAMES)
def test_door(all_doors: dict[str, Door], name: str) -> None:
    door = all_doors[name]

    @settings(
        max_examples=60, database=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck)
    )
    @given(door.inputs)
    def run(value: Any) -> None:
        outcome(door.call, value)

    run()


def test_every_door_has_a_test(all_doors: dict[str, Door]) -> None:
    assert [name for name, door in all_doors.items() if not door.apart] == _NAMES
