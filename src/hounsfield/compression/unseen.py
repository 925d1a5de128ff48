"""The gate's data must be new: no patient, image or table that trained or calibrated the model.

Only what can be found is found: by the part's name, by patient id, by the content of the images,
and by the digest of the training data where the package names it. A package that names nothing
proves nothing, so the tables of training and calibration can be given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hounsfield.errors import InputError
from hounsfield.evaluation.dataset import Case, Dataset, content_digest
from hounsfield.packages import ModelPackage

TRAINING_PARTS: Final = ("train", "training")
_USED_PARTS: Final = (*TRAINING_PARTS, "calibration", "calib", "calibrate")
_CARD_DIGEST: Final = re.compile(r"^- Data digest: `([0-9a-f]{64})`", re.MULTILINE)
_KEYS: Final = ("training_data_sha256", "calibration_data_sha256", "data_sha256")
_SHOWN: Final = 5


def demand_unseen(data: Dataset, whole: Dataset, used: Sequence[Dataset], package: ModelPackage) -> tuple[str, ...]:
    """Refuse data that the model has learned from; return in words what was compared.

    Parameters
    ----------
    data
        The cases of the gate.
    whole
        The table they came from, with every part.
    used
        Tables that trained or calibrated the model.

    Raises
    ------
    InputError
        Names the cases, never a patient.
    """
    for part in data.splits:
        if part.lower() in _USED_PARTS:
            raise InputError(f"the part {part!r} is what the model learned from", "give a test part", data.path)
    named = sorted({*_named_digests(package)})
    if named and data.digest() in named:
        fact = "the package names exactly these cases as its training or calibration data"
        raise InputError(fact, "give cases that it has not seen", data.path)
    learned = learned_cases(whole)
    others = _once([*learned, *(case for table in used for case in table.cases)])
    demand_apart(data, others)
    told = [f"{len(others)} cases of training or calibration: no patient or image in common"] if others else []
    if named:
        told.append(f"not the training data whose digest the package names ({len(named)})")
    return tuple(told)


def learned_cases(whole: Dataset, parts: Sequence[str] = _USED_PARTS) -> list[Case]:
    """The cases of a table whose part says that a model learned from them."""
    return [case for case in whole.cases if case.split.lower() in parts]


def _once(cases: Sequence[Case]) -> list[Case]:
    """Each case once, since a table may be given twice; the same images under another patient stay apart."""
    return list({(case.id, case.patient_id, case.images): case for case in cases}.values())


def demand_apart(data: Dataset, others: Sequence[Case]) -> None:
    """Refuse cases that have a patient or an image in common with others; names cases, never patients."""
    if not others:
        return
    patients = {case.patient_id for case in others}
    images = {digest for case in others for digest in _images(case)}
    met = [case.id for case in data.cases if case.patient_id in patients]
    same = [case.id for case in data.cases if case.id not in met and not images.isdisjoint(_images(case))]
    for ids, fact in ((met, "of patients"), (same, "with images")):
        if ids:
            more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            raise InputError(
                f"cases {fact} that trained or calibrated the model: {', '.join(ids[:_SHOWN])}{more}",
                "take them out of the gate's data",
                data.path,
            )


def _images(case: Case) -> set[str]:
    return {content_digest(path) for _, path in case.images}


def _named_digests(package: ModelPackage) -> Iterator[str]:
    yield from _CARD_DIGEST.findall(package.card())
    for item in package.manifest.evidence:
        evidence = package.evidence(item.precision)
        if evidence is not None:
            yield from _digests_in(evidence.details)


def _digests_in(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _digests_in(value)
        elif key in _KEYS and isinstance(value, str):
            yield value
