"""Every module imports on its own, and what lies right of the table works where DGL is absent."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import dgl_rbm

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(dgl_rbm.__path__, "dgl_rbm.")
    if not module.name.endswith("__main__")
)
PACKAGE = Path(dgl_rbm.__file__).parent
DIRECT_IMPORTS = ("import dgl\n", "import dgl.", "from dgl ", "from dgl.")

# What a saved student needs; none of it may import DGL.
WITHOUT_DGL = [
    name
    for name in MODULES
    if name.startswith(("dgl_rbm.students", "dgl_rbm.training"))
    or name
    in (
        "dgl_rbm.artifacts",
        "dgl_rbm.config",
        "dgl_rbm.data.normalize",
        "dgl_rbm.encodings",
        "dgl_rbm.environment",
        "dgl_rbm.errors",
        "dgl_rbm.objectives",
        "dgl_rbm.registry",
        "dgl_rbm.regularizers.targets",
        "dgl_rbm.run_config",
        "dgl_rbm.serving",
        "dgl_rbm.sparse",
        "dgl_rbm.table",
    )
]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment
    )


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


def test_students_import_without_dgl() -> None:
    assert len(WITHOUT_DGL) > 20
    code = """
import importlib, sys
sys.modules["dgl"] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    done = python(code, *WITHOUT_DGL)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_and_asking_for_help_is_light() -> None:
    done = python("import sys, dgl_rbm, dgl_rbm.cli; print('torch' in sys.modules, 'dgl' in sys.modules)")
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_dgl_comes_in_through_one_door() -> None:
    offenders = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name != "_dgl.py"
        and any(
            line.lstrip().startswith(("import dgl\n", "import dgl.", "from dgl ", "from dgl.")) for line in path.open()
        )
    ]
    assert not offenders


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
from dgl_rbm import load_run
predictor = load_run(sys.argv[1]).predictor
print(predictor.predict_proba(np.ones((2, 64)), neighbors=[[0, 1], []]).sum().item())
"""
    done = python(code, str(saved))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(2.0, abs=1e-4)


def test_the_command_line_predicts_without_dgl(saved: Path, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "rows.npy", np.ones((3, 64)))
    code = """
import sys
sys.modules["dgl"] = None
from dgl_rbm.cli import app
app(sys.argv[1:])
"""
    done = python(code, "predict", str(saved), str(tmp_path / "rows.npy"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 4


def test_the_stand_in_for_graphbolt_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgl_rbm import _dgl
    from dgl_rbm.errors import MissingDependencyError

    stand_in = _dgl._GraphBoltStandIn("this DGL has no binary for torch 9.9.")
    with pytest.raises(MissingDependencyError, match=r"dgl.graphbolt.ItemSet .* torch 9.9"):
        stand_in.ItemSet  # noqa: B018
    monkeypatch.setitem(sys.modules, "dgl.graphbolt", stand_in)
    build = _dgl.describe_build()
    assert (build.graphbolt, build.graphbolt_reason) == (False, stand_in.why)
