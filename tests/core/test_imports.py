"""The picture of the package: rooms from top to bottom, imports that point down, and a border for DGL."""

from __future__ import annotations

import ast
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dgl_rbm

# Rooms from top to bottom. A module imports from its own room and from rooms below it.
ABOVE_THE_BORDER = (
    "cli",
    "commands",
    "console",
    "experiments",
    "run",
    "methods",
    "evaluation",
    "regularizers",
    "encoders",
    "teachers",
    "data",
)
BELOW_THE_BORDER = (
    "serving",
    "training",
    "students",
    "tasks",
    "runtime",
    "rows",
    "specs",
    "registry",
    "config",
    "arguments",
    "objectives",
    "norms",
    "precision",
    "yaml_files",
    "errors",
    "_version",
)
ROOMS = (*ABOVE_THE_BORDER, *BELOW_THE_BORDER)
# Above the border, and importable without DGL all the same: saved runs are typed with them.
WITHOUT_DGL = ("data.base", "data.requests", "teachers.base", "encoders.base", "regularizers.base", "run.config")
PACKAGE = Path(dgl_rbm.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(dgl_rbm.__path__, "dgl_rbm."))
# The one module that imports DGL itself.
DOOR = "dgl_rbm.data.dgl_compat"


def room(module: str) -> str:
    return module.split(".")[1]


def file_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported_by(module: str) -> Iterator[str]:
    """Yield every absolute name that a module imports, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(file_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield f"{node.module}"
            yield from (f"{node.module}.{name.name}" for name in node.names)


ARROWS = sorted(
    {
        (module, target)
        for module in MODULES
        for target in imported_by(module)
        if target in MODULES and "." in target and target != module
    }
)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_every_module_has_a_room_and_every_room_a_module() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)


def test_imports_point_down() -> None:
    upward = [
        f"{module} -> {target}" for module, target in ARROWS if ROOMS.index(room(target)) < ROOMS.index(room(module))
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_import_each_other_in_a_circle() -> None:
    remaining = {module: {target for source, target in ARROWS if source == module} for module in MODULES}
    # A package whose names load its modules on first use imports nothing by itself.
    while free := [module for module, targets in remaining.items() if not targets & remaining.keys()]:
        for module in free:
            del remaining[module]
    assert not remaining, {module: targets & remaining.keys() for module, targets in remaining.items()}


def test_every_module_imports_first() -> None:
    # One process, with the package forgotten before each import, so that no other module comes before it.
    code = """
import importlib, sys, torch
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "dgl_rbm"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{name}: {error}")
"""
    done = python(code, *MODULES)
    assert done.returncode == 0, done.stderr


IMPORT_WITHOUT_DGL = """
import importlib, sys
sys.modules["dgl"] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_everything_below_the_border_imports_without_dgl() -> None:
    modules = [module for module in MODULES if room(module) in BELOW_THE_BORDER]
    done = python(IMPORT_WITHOUT_DGL, *modules)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", WITHOUT_DGL)
def test_the_base_classes_of_configs_import_without_dgl(module: str) -> None:
    done = python(IMPORT_WITHOUT_DGL, f"dgl_rbm.{module}")
    assert done.returncode == 0, done.stderr


def test_importing_the_package_and_asking_for_help_is_light() -> None:
    done = python("import sys, dgl_rbm, dgl_rbm.cli; print('torch' in sys.modules, 'dgl' in sys.modules)")
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_dgl_comes_in_through_one_door() -> None:
    inside = [module for module in MODULES if any(name.split(".")[0] == "dgl" for name in imported_by(module))]
    assert inside == [DOOR]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    quick = {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 5}}
    result = dgl_rbm.Distiller(teacher=quick, training={"epochs": 5}, device="cpu").fit("digits")
    return result.save(folder)


def test_a_saved_student_predicts_without_dgl(saved: Path) -> None:
    code = """
import sys
sys.modules["dgl"] = None
import numpy as np
from dgl_rbm import Run
predictor = Run.load(sys.argv[1]).predictor
print(predictor.predict_proba(np.ones((2, 64)), neighbors=[[0, 1], []]).sum().item())
"""
    done = python(code, str(saved))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_the_command_line_predicts_without_dgl(saved: Path, tmp_path: Path, ending: str) -> None:
    import numpy as np
    import pandas as pd

    path = tmp_path / f"rows.{ending}"
    frame = pd.DataFrame(np.ones((3, 64)), columns=[f"x{i}" for i in range(64)])
    if ending == "npy":
        np.save(path, frame.to_numpy())
    elif ending == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    code = """
import sys
sys.modules["dgl"] = None
from dgl_rbm.cli import app
app(sys.argv[1:])
"""
    done = python(code, "predict", str(saved), str(path))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 4


def test_the_stand_in_for_graphbolt_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgl_rbm.data import dgl_compat
    from dgl_rbm.errors import MissingDependencyError

    stand_in = dgl_compat._GraphBoltStandIn("this DGL has no binary for torch 9.9.")
    with pytest.raises(MissingDependencyError, match=r"dgl.graphbolt.ItemSet .* torch 9.9"):
        stand_in.ItemSet  # noqa: B018
    monkeypatch.setitem(sys.modules, "dgl.graphbolt", stand_in)
    build = dgl_compat.describe_build()
    assert (build.graphbolt, build.graphbolt_reason) == (False, stand_in.why)
