"""The domain gate: every rule runs, warns or refuses, and says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hounsfield.errors import DomainRefused
from hounsfield.packages.manifest import Domain
from hounsfield.preparing.domain import check_domain, demand_domain
from hounsfield.volume import Acquisition, Geometry, Provenance, Volume


def scan(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0), **facts: object) -> Volume:
    provenance = Provenance(format="dicom", acquisition=replace(Acquisition(modality="MR"), **facts))
    return Volume(np.zeros((4, 5, 6)), Geometry.from_parts((4, 5, 6), spacing_mm), provenance=provenance)


def outcome(volume: Volume, **rules: object) -> dict[str, str]:
    domain = Domain.model_validate({"modality": {"allowed": ["MR"], "breach": "refuse"}, **rules})
    return {check.about: check.outcome for check in check_domain(volume, domain)}


def test_the_wrong_modality_is_refused_and_named() -> None:
    domain = Domain.model_validate({"modality": {"allowed": ["MR"], "breach": "refuse"}})
    with pytest.raises(DomainRefused, match="modality is CT, the model reads MR"):
        demand_domain(check_domain(scan(modality="CT"), domain), "some-model")


def test_a_dicom_scan_without_modality_is_refused_but_a_nifti_is_only_noted() -> None:
    nameless = scan(modality=None)
    assert outcome(nameless) == {"modality": "refuse"}
    assert outcome(replace(nameless, provenance=replace(nameless.provenance, format="nifti"))) == {
        "modality": "unknown"
    }


@pytest.mark.parametrize(
    ("volume", "rule", "expected"),
    [
        (scan(body_part="brain"), {"body_part": {"allowed": ["BRAIN"], "breach": "warn"}}, "run"),
        (scan(body_part="KNEE"), {"body_part": {"allowed": ["BRAIN"], "breach": "warn"}}, "warn"),
        (scan(), {"body_part": {"allowed": ["BRAIN"], "breach": "warn"}}, "unknown"),
        (scan(sex="F"), {"sex": {"allowed": ["M"], "breach": "refuse"}}, "refuse"),
        (scan(age_years=12.0), {"age_years": {"low": 18, "breach": "refuse"}}, "refuse"),
        (scan(age_years=18.0), {"age_years": {"low": 18, "breach": "refuse"}}, "run"),
        (scan(), {"age_years": {"low": 18, "breach": "refuse"}}, "unknown"),
        (scan((5.0, 1.0, 1.0)), {"spacing_mm": {"high": 2, "breach": "refuse"}}, "refuse"),
        (scan((5.0, 1.0, 1.0)), {"slice_spacing_mm": {"low": 5, "high": 5, "breach": "refuse"}}, "run"),
        (scan(), {"extent_mm": {"low": 5, "breach": "warn"}}, "warn"),
        (scan(), {"slices": {"low": 4, "breach": "warn"}}, "run"),
        (scan(magnetic_field_tesla=7.0), {"magnetic_field_tesla": {"high": 3, "breach": "warn"}}, "warn"),
        (scan(contrast_agent="Gd"), {"contrast": "forbidden", "contrast_breach": "refuse"}, "refuse"),
        (scan(), {"contrast": "required"}, "warn"),
        (scan(), {"padding_fraction": {"high": 0.5, "breach": "warn"}}, "run"),
    ],
)
def test_each_rule(volume: Volume, rule: dict[str, object], expected: str) -> None:
    assert expected in outcome(volume, **rule).values()
    assert set(outcome(volume, **rule).values()) <= {expected, "run"}


def test_a_repaired_scan_says_so() -> None:
    volume = scan()
    repaired = replace(volume, provenance=volume.provenance.with_repair("tilt of 12 degrees removed"))
    assert outcome(repaired, repaired="refuse")["repair"] == "refuse"
    assert outcome(repaired)["repair"] == "warn"
