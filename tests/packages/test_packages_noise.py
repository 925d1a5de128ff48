"""Random damage to any file of a package ends in a PackageError or in no harm, never in a crash."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from package_variants import full_package, redigest

from hounsfield.errors import PackageError
from hounsfield.packages import verify

FILES = ("manifest.toml", "graphs/fp32.onnx", "weights.safetensors", "evidence/fp32.json", "card.md")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_package(tmp_path_factory.mktemp("good")).root


def _refusal(root: Path) -> str:
    try:
        verify(root)
    except PackageError as error:
        return str(error)
    return ""


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(FILES),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0.2, 1),
    again=st.booleans(),
)
def test_damage_is_refused_or_harmless(
    name: str, cuts: list[tuple[float, int]], keep: float, again: bool, package: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(package, root)
    good = (root / name).read_bytes()
    data = bytearray(good)
    for where, value in cuts:
        data[int(where * (len(data) - 1))] = value
    data = data[: max(1, int(len(data) * keep))]
    (root / name).write_bytes(data)
    if again:
        redigest(root)
    line = _refusal(root)
    assert "\n" not in line
    assert line or again or bytes(data) == good
