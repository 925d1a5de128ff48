"""The front door: its names, and what starting up must not import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import hounsfield

HEAVY = {
    "fastapi", "highdicom", "imagecodecs", "monai", "nibabel", "numpy", "onnx", "onnxruntime",
    "openvino", "PIL", "pydantic", "pydicom", "pynetdicom", "scipy", "SimpleITK", "sqlalchemy", "torch",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has imported after ``code``."""
    listing = "import sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_names_of_the_front_door() -> None:
    assert sorted(hounsfield.__all__) == hounsfield.__dir__()
    assert len(hounsfield.__all__) <= 40
    for name in hounsfield.__all__:
        assert getattr(hounsfield, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        hounsfield.predict  # noqa: B018


def test_importing_hounsfield_imports_nothing_heavy() -> None:
    assert modules_after("import hounsfield") & HEAVY == set()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['hounsfield', '--help']\n"
        "from hounsfield.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    assert modules_after(code) & HEAVY == set()


def test_the_light_rooms_import_no_framework() -> None:
    rooms = "import hounsfield.volume, hounsfield.findings, hounsfield.packages, hounsfield.planning"
    assert modules_after(rooms) & {"torch", "pydicom", "openvino", "fastapi", "onnxruntime"} == set()


def test_the_core_runs_without_torch() -> None:
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['monai'] = None\n"
        "import hounsfield.usecases.run, hounsfield.reading, hounsfield.writing, hounsfield.inference"
    )
    assert "openvino" not in modules_after(code)
