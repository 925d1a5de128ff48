"""Volumes, intensities and places against plain numpy over all voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from hounsfield.errors import GeometryRefused, PackageInvalid
from hounsfield.findings import CodedConcept, Finding, Segment, local_concept
from hounsfield.findings import terminology as terms
from hounsfield.findings.components import connected_components, segment_boxes, split_instances
from hounsfield.findings.measuring import derived_uid, measure_segments
from hounsfield.volume import Geometry, LabelMap, Quantity, Volume

ANATOMY = CodedConcept("91723000", "SCT", "Anatomical Structure")
ABNORMAL = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
ORGAN = Segment(1, "Liver", ANATOMY, CodedConcept("10200004", "SCT", "Liver"))
LESION = Segment(2, "Nodule", ABNORMAL, CodedConcept("27925004", "SCT", "Nodule"), lesion=True)
SHAPE = (12, 20, 18)


def oblique() -> Geometry:
    turn = np.radians(15)
    direction = np.array([[0, np.sin(turn), np.cos(turn)], [0, np.cos(turn), -np.sin(turn)], [1, 0, 0]])
    return Geometry.from_parts(SHAPE, (2.5, 0.8, 0.6), (-12.5, 40.0, 3.0), direction)


def scan(quantity: Quantity = Quantity.HU) -> Volume:
    values = np.random.default_rng(4).normal(40, 30, SHAPE).astype(np.float32)
    return Volume(values, oblique(), quantity)


def labelled() -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    array[2:9, 3:15, 4:12] = 1
    array[1, 17, 15] = 2
    array[4:7, 16:19, 14:17] = 2
    array[7, 19, 17] = 2  # touches the block above only at a corner: 26-connected
    array[10:12, 0:3, 0:3] = 2
    return LabelMap(array, oblique())


def value(finding: Finding, concept: CodedConcept, derivation: CodedConcept | None = None, unit: str = "") -> float:
    (found,) = [
        m
        for m in finding.measurements
        if m.concept == concept and m.derivation == derivation and (not unit or m.unit.value == unit)
    ]
    return found.value


def test_whole_segment_equals_numpy() -> None:
    volume, labels = scan(), labelled()
    findings = measure_segments(labels, volume, (ORGAN, LESION), seed="1.2.3")
    whole = findings.findings[0]
    inside = volume.array[labels.array == 1].astype(np.float64)
    assert value(whole, terms.VOLUME, unit="ml") == pytest.approx(inside.size * 2.5 * 0.8 * 0.6 / 1000)
    assert value(whole, terms.ATTENUATION, terms.MEAN) == pytest.approx(inside.mean())
    assert value(whole, terms.ATTENUATION, terms.STANDARD_DEVIATION) == pytest.approx(inside.std())
    assert value(whole, terms.ATTENUATION, terms.MINIMUM) == inside.min()
    assert value(whole, terms.ATTENUATION, terms.MAXIMUM) == inside.max()
    assert {m.unit.value for m in whole.measurements} == {"ml", "[hnsf'U]"}
    assert whole.site == ORGAN.type


def test_place_equals_every_voxel_corner() -> None:
    labels = labelled()
    whole = measure_segments(labels, scan(), (ORGAN, LESION), seed="1.2.3").findings[0]
    index = np.argwhere(labels.array == 1)
    corners = np.concatenate([index + np.array(c) - 0.5 for c in np.ndindex(2, 2, 2)])
    points = labels.geometry.index_to_mm(corners)
    assert whole.centre_mm == pytest.approx(labels.geometry.index_to_mm(index).mean(axis=0).tolist())
    assert whole.box_mm is not None
    assert whole.box_mm[0] == pytest.approx(points.min(axis=0).tolist())
    assert whole.box_mm[1] == pytest.approx(points.max(axis=0).tolist())


def test_each_component_is_a_finding_largest_first() -> None:
    findings = measure_segments(labelled(), scan(), (ORGAN, LESION), seed="1.2.3")
    parts = [f for f in findings.findings if f.segment_number == 2 and f.component]
    assert [f.component for f in parts] == [1, 2, 3]
    voxel = 2.5 * 0.8 * 0.6
    assert [value(f, terms.VOLUME, unit="mm3") for f in parts] == pytest.approx([28 * voxel, 18 * voxel, voxel])
    assert [f.tracking_id for f in parts] == ["Nodule 1", "Nodule 2", "Nodule 3"]
    assert not any(m.unit.value == "mm" for m in parts[2].measurements), "one voxel has no diameter between centres"
    whole = next(f for f in findings.findings if f.segment_number == 2 and f.component is None)
    assert value(whole, terms.VOLUME, unit="ml") == pytest.approx(47 * voxel / 1000)
    assert value(whole, terms.COMPONENT_COUNT) == 3
    assert "Nodule touches the edge of the scan and may be incomplete" in findings.warnings


def test_components_equal_an_independent_labelling() -> None:
    array = (np.random.default_rng(9).random((9, 30, 31)) < 0.12).astype(np.uint8)
    (box,) = segment_boxes(array, 1)
    assert box is not None
    mine = connected_components(array, 1, box)
    full, count = ndimage.label(array, structure=np.ones((3, 3, 3)))
    assert mine.count == count
    assert list(mine.sizes) == sorted(np.bincount(full.ravel())[1:].tolist(), reverse=True)
    pairs = set(zip(mine.array.ravel().tolist(), full[box].ravel().tolist(), strict=True))
    assert len(pairs) == count + (0 in mine.array)


def test_the_same_seed_gives_the_same_uids_and_another_gives_others() -> None:
    uids = [
        [f.tracking_uid for f in measure_segments(labelled(), scan(), (ORGAN, LESION), seed=seed).findings]
        for seed in ("1.2.3", "1.2.3", "1.2.4")
    ]
    assert uids[0] == uids[1]
    assert not set(uids[0]) & set(uids[2])
    assert len(set(uids[0])) == len(uids[0])
    assert all(len(uid) <= 64 for uid in uids[0])
    assert derived_uid("a", "b") != derived_uid("a", "c")


def test_empty_segment_is_zero_and_said() -> None:
    labels = LabelMap(np.zeros(SHAPE, np.uint8), oblique())
    findings = measure_segments(labels, scan(), (ORGAN, LESION), seed="1")
    assert [value(f, terms.VOLUME, unit="ml") for f in findings.findings] == [0.0, 0.0]
    assert findings.warnings == ("Liver: nothing was found", "Nodule: nothing was found")
    assert findings.findings[0].centre_mm is None


def test_padding_and_non_finite_voxels_do_not_count_for_intensity() -> None:
    volume = scan(Quantity.SUV_BW)
    array = volume.array.copy()
    padding = np.zeros(SHAPE, bool)
    padding[2, 3, 4] = True
    array[2, 3, 4] = 1e6
    array[3, 3, 4] = np.nan
    volume = Volume(array, volume.geometry, Quantity.SUV_BW, padding)
    labels = labelled()
    whole = measure_segments(labels, volume, (ORGAN, LESION), seed="1").findings[0]
    valid = array[(labels.array == 1) & ~padding & np.isfinite(array)].astype(np.float64)
    assert value(whole, terms.SUV_BW, terms.MEAN) == pytest.approx(valid.mean())
    assert value(whole, terms.SUV_BW, terms.MAXIMUM) == valid.max()
    assert {m.unit.value for m in whole.measurements} == {"ml", "g/ml{SUVbw}"}


def test_many_components_are_joined_and_said() -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[::2, ::2, ::2] = 2
    findings = measure_segments(LabelMap(array, oblique()), scan(), (ORGAN, LESION), seed="1", max_components=5)
    parts = [f.component for f in findings.findings if f.segment_number == 2]
    assert parts == [None, 1, 2, 3, 4, 5, 0]
    total = (array == 2).sum()
    rest = next(f for f in findings.findings if f.component == 0)
    assert value(rest, terms.VOLUME, unit="ml") == pytest.approx((total - 5) * 2.5 * 0.8 * 0.6 / 1000)
    assert any("are reported together" in warning for warning in findings.warnings)


def test_instances_number_each_lesion_and_lose_no_voxel() -> None:
    labels = labelled().array
    split = split_instances(labels, (ORGAN, LESION), max_components=2)
    assert [(i.number, i.segment.label, i.component) for i in split.items] == [
        (1, "Liver", None),
        (2, "Nodule", 1),
        (3, "Nodule", 2),
        (4, "Nodule", 0),
    ]
    assert np.array_equal(split.array > 1, labels == 2)
    assert np.array_equal(split.array == 1, labels == 1)
    assert np.bincount(split.array.ravel())[1:].tolist() == [7 * 12 * 8, 28, 18, 1]


def test_more_than_255_instances_need_sixteen_bits() -> None:
    array = np.zeros((31, 31, 31), np.uint8)
    array[::3, ::3, ::3] = 2
    split = split_instances(array, (ORGAN, LESION), max_components=400)
    assert len(split.items) == 402
    assert split.array.max() == 402


def test_foreign_grid_and_undescribed_label_are_refused() -> None:
    moved = LabelMap(labelled().array, Geometry.from_parts(SHAPE, (2.5, 0.8, 0.6)))
    with pytest.raises(GeometryRefused, match="grid of the scan"):
        measure_segments(moved, scan(), (ORGAN, LESION), seed="1")
    with pytest.raises(PackageInvalid, match=r"\[2\]"):
        measure_segments(labelled(), scan(), (ORGAN,), seed="1")


def test_local_concept_is_kept_for_an_uncoded_label() -> None:
    segment = Segment(1, "Mystery", local_concept("Mystery"), local_concept("Mystery"))
    labels = LabelMap((labelled().array == 1).astype(np.uint8), oblique())
    finding = measure_segments(labels, scan(), (segment,), seed="1").findings[0]
    assert finding.concept.is_local
    assert finding.site is None
