"""DICOM → volume → prepare → network → restore → SEG → independent reader, every voxel in place.

The phantom is a function of the patient's millimetres, so its truth needs no index arithmetic:
each stored pixel of the SEG is asked where it lies (by highdicom) and must carry the label that
the phantom has there. The network is exact (nearest level), so 100 % is the only pass.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from hounsfield.packages import ModelPackage
from hounsfield.reading import read
from hounsfield.testing.packages import TinyModel, tiny_package
from hounsfield.usecases.events import silent
from hounsfield.usecases.inferring import infer_stage
from hounsfield.usecases.job import Choices
from hounsfield.usecases.sessions import Sessions
from hounsfield.usecases.spots import Spot
from hounsfield.usecases.stages import Loaded
from hounsfield.usecases.storing import segment_of
from hounsfield.volume import Geometry, Volume, all_orientations
from hounsfield.writing import Result, ResultFacts, ResultUids, write_seg
from hounsfield.writing.series import SeriesIdentity, write_mr_series

LEVELS = (0.0, 2000.0, 4095.0)
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def truth(points_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """1 in a slanted half space, 2 in an off-centre ball: no symmetry that could hide a flip."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    labels = np.where(x + 0.7 * y - 0.4 * z > 4.3, 1, 0)
    ball = (x - 1.1) ** 2 + (y + 2.3) ** 2 + (z - 3.7) ** 2 < 5.2**2
    return np.where(ball, 2, labels).astype(np.uint8)


def points(geometry: Geometry) -> NDArray[np.float64]:
    return geometry.index_to_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    model = TinyModel(levels=LEVELS, modality="MR", quantity="arbitrary", window=(8, 8, 8), overlap=0.25)
    return tiny_package(tmp_path_factory.mktemp("package"), model)


@pytest.fixture(scope="module")
def sessions(package: ModelPackage) -> Sessions:
    return Sessions()


def write_scan(geometry: Geometry, folder: Path) -> None:
    """The phantom as DICOM; a left-handed index order is what its slices in reverse are."""
    if not geometry.is_right_handed:
        affine = geometry.affine.copy()
        affine[:3, 3] = geometry.index_to_mm((geometry.shape[0] - 1, 0, 0))
        affine[:3, 0] *= -1
        geometry = Geometry(geometry.shape, affine)
    array = np.asarray(LEVELS)[truth(points(geometry))]
    identity = SeriesIdentity(
        "Phantom", "P", "study", "series", "BRAIN", 1, "2.25.11", "2.25.12", "phantom", NOON.replace(tzinfo=None)
    )
    write_mr_series(Volume(array, geometry), folder, identity)


def check_road(geometry: Geometry, package: ModelPackage, sessions: Sessions, folder: Path) -> None:
    write_scan(geometry, folder / "scan")
    scan = read(folder / "scan")
    assert np.array_equal(truth(points(scan.geometry)), np.searchsorted(LEVELS, scan.array))
    labelled = infer_stage(
        Loaded(scan, (Spot(scan),), (), 0.0), package, Choices(allow_unproven=True), sessions, silent
    )
    segments = tuple(segment_of(spec) for spec in package.manifest.output.segments)
    from hounsfield.findings.measuring import measure_segments

    facts = ResultFacts(
        package_id="t",
        package_version="1.0.0",
        package_title="t",
        package_digest="0" * 64,
        precision="fp32",
        engine="openvino",
        software_version="0",
        run_uid="2.25.99",
        started=NOON,
        finished=NOON,
    )
    findings = measure_segments(labelled.labels, scan, segments, seed="2.25.99")
    result = Result(scan, labelled.labels, findings, facts, ResultUids.for_run("2.25.99"))
    write_seg(result, folder / "seg.dcm")

    seg = highdicom.seg.segread(folder / "seg.dcm")
    whole = seg.get_volume(combine_segments=True)
    index = np.moveaxis(np.indices(whole.spatial_shape), 0, -1).reshape(-1, 3)
    where = whole.map_indices_to_reference(index)
    assert np.array_equal(whole.array.ravel(), truth(where))
    expected = truth(points(scan.geometry))
    for number in (1, 2):
        assert np.count_nonzero(whole.array == number) == np.count_nonzero(expected == number) > 20


BASE = Geometry.from_parts((11, 12, 13), (2.0, 1.5, 1.0), (-6.0, -9.0, -8.0))


@pytest.mark.parametrize("code", all_orientations())
def test_all_48_orientations(code: str, package: ModelPackage, sessions: Sessions, tmp_path: Path) -> None:
    check_road(BASE.reoriented(code)[0], package, sessions, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_oblique_and_anisotropic(seed: int, package: ModelPackage, sessions: Sessions, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(random.normal(size=3)).as_matrix()
    spacing = random.uniform(0.6, 3.0, 3)
    shape = tuple(int(np.ceil(24 / s)) for s in spacing)
    centre = np.array([1.0, -2.0, 3.0])
    origin = centre - turn @ (spacing * (np.array(shape) - 1) / 2)
    geometry = Geometry.from_parts((shape[0], shape[1], shape[2]), spacing, origin, turn)
    check_road(geometry, package, sessions, tmp_path)
