"""May this package read this scan? Run, warn or refuse, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hounsfield.errors import DomainRefused
from hounsfield.packages.manifest import Allowed, Between, Domain
from hounsfield.volume import Volume


@dataclass(frozen=True)
class DomainCheck:
    """One comparison of the scan with the manifest's ``[domain]``.

    ``outcome`` is ``"run"`` (inside), ``"unknown"`` (the scan does not say), ``"warn"`` or
    ``"refuse"``; ``message`` says it in plain words.
    """

    about: str
    outcome: Literal["run", "unknown", "warn", "refuse"]
    message: str


def check_domain(volume: Volume, domain: Domain) -> tuple[DomainCheck, ...]:
    """Compare a scan with what a package may be run on; every rule gives one check."""
    return tuple(_checks(volume, domain))


def demand_domain(checks: Sequence[DomainCheck], model: str) -> tuple[str, ...]:
    """The warnings of the checks.

    Raises
    ------
    DomainRefused
        If a check says refuse; all such reasons are named.
    """
    refusals = [check.message for check in checks if check.outcome == "refuse"]
    if refusals:
        raise DomainRefused(
            fact=f"{model} must not read this scan: " + "; ".join(refusals),
            remedy="choose another series or another model; the model's card says what it reads",
        )
    return tuple(check.message for check in checks if check.outcome in ("warn", "unknown"))


def _checks(volume: Volume, domain: Domain) -> Iterator[DomainCheck]:
    scan, geometry = volume.provenance.acquisition, volume.geometry
    spacing = geometry.spacing_mm
    yield _modality(volume, domain.modality)
    if domain.body_part:
        yield _allowed("body part", scan.body_part, domain.body_part)
    if domain.sex:
        yield _allowed("sex", scan.sex, domain.sex)
    if domain.age_years:
        yield _between("age in years", _known(scan.age_years), domain.age_years)
    if domain.spacing_mm:
        yield _between("voxel spacing in mm", spacing, domain.spacing_mm)
    if domain.slice_spacing_mm:
        yield _between("slice spacing in mm", (spacing[0],), domain.slice_spacing_mm)
    if domain.extent_mm:
        yield _between("size of the scanned box in mm", geometry.extent_mm, domain.extent_mm)
    if domain.slices:
        yield _between("number of slices", (float(geometry.shape[0]),), domain.slices)
    if domain.magnetic_field_tesla:
        yield _between("field strength in tesla", _known(scan.magnetic_field_tesla), domain.magnetic_field_tesla)
    if domain.contrast:
        yield _contrast(scan.contrast_agent, domain)
    if domain.padding_fraction:
        share = 0.0 if volume.padding is None else float(volume.padding.mean())
        yield _between("share of padding voxels", (share,), domain.padding_fraction)
    for fact in volume.provenance.repairs:
        yield DomainCheck("repair", domain.repaired, f"the scan was repaired: {fact}")


def _modality(volume: Volume, rule: Allowed) -> DomainCheck:
    modality = volume.provenance.acquisition.modality
    if modality is None and volume.provenance.format == "dicom":
        return DomainCheck("modality", "refuse", "the scan does not state its modality")
    return _allowed("modality", modality, rule)


def _allowed(about: str, value: str | None, rule: Allowed) -> DomainCheck:
    allowed = ", ".join(rule.allowed)
    if value is None or not value.strip():
        return DomainCheck(about, "unknown", f"the scan does not state its {about} (the model reads {allowed})")
    if value.strip().upper() in {name.upper() for name in rule.allowed}:
        return DomainCheck(about, "run", f"{about} {value}")
    return DomainCheck(about, rule.breach, f"{about} is {value}, the model reads {allowed}")


def _between(about: str, values: tuple[float, ...], rule: Between) -> DomainCheck:
    low = "" if rule.low is None else f"at least {rule.low:g}"
    high = "" if rule.high is None else f"at most {rule.high:g}"
    wanted = " and ".join(part for part in (low, high) if part)
    if not values:
        return DomainCheck(about, "unknown", f"the scan does not state its {about} (the model wants {wanted})")
    shown = " x ".join(f"{value:.4g}" for value in values)
    too_low = rule.low is not None and min(values) < rule.low * (1 - 1e-6)
    too_high = rule.high is not None and max(values) > rule.high * (1 + 1e-6)
    if too_low or too_high:
        return DomainCheck(about, rule.breach, f"{about} is {shown}, the model wants {wanted}")
    return DomainCheck(about, "run", f"{about} {shown}")


def _contrast(agent: str | None, domain: Domain) -> DomainCheck:
    given = bool(agent and agent.strip())
    if given == (domain.contrast == "required"):
        return DomainCheck("contrast", "run", "contrast agent given" if given else "no contrast agent")
    fact = "a contrast agent was given" if given else "no contrast agent is stated"
    return DomainCheck("contrast", domain.contrast_breach, f"{fact}, for the model it is {domain.contrast}")


def _known(value: float | None) -> tuple[float, ...]:
    return () if value is None else (value,)
