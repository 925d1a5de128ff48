"""Every standard code in the house is the one that the standard's dictionaries hold."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from hounsfield.findings import CodedConcept, local_concept
from hounsfield.findings import terminology as terms
from hounsfield.volume import Quantity

# UCUM is compositional: the dictionary lists only the units that DICOM context groups name.
UNLISTED_UNITS = {("ml", "UCUM")}


def _meanings(concept: CodedConcept) -> set[str]:
    found = [entry[concept.value][0] for entry in concepts[concept.scheme].values() if concept.value in entry]
    return {meaning.casefold() for meaning in found}


@pytest.mark.parametrize("concept", terms.STANDARD_CODES, ids=lambda c: f"{c.scheme}-{c.value}")
def test_code_has_the_meaning_of_the_dictionary(concept: CodedConcept) -> None:
    if (concept.value, concept.scheme) in UNLISTED_UNITS:
        assert not _meanings(concept)
        return
    assert concept.meaning.casefold() in _meanings(concept)


def test_volume_is_the_code_of_the_standard() -> None:
    assert (terms.VOLUME.value, terms.VOLUME.scheme) == ("118565006", "SCT")
    assert len(terms.STANDARD_CODES) > 20


def test_local_codes_fit_their_value_representations() -> None:
    local = [value for value in vars(terms).values() if isinstance(value, CodedConcept) and value.is_local]
    assert len(local) > 5
    assert all(len(concept.value) <= 16 and len(concept.meaning) <= 64 for concept in local)


def test_unknown_label_gets_a_local_code_never_a_standard_one() -> None:
    concept = local_concept("Left hippocampal tail (manual)")
    assert concept.is_local
    assert concept.meaning == "Left hippocampal tail (manual)"


@pytest.mark.parametrize(
    ("quantity", "modality", "concept", "unit"),
    [
        (Quantity.HU, "CT", "112031", "[hnsf'U]"),
        (Quantity.SUV_BW, "PT", "126401", "g/ml{SUVbw}"),
        (Quantity.ARBITRARY, "MR", "110852", "1"),
        (Quantity.ARBITRARY, None, "VOXEL_VALUE", "1"),
    ],
)
def test_intensity_concepts(quantity: Quantity, modality: str | None, concept: str, unit: str) -> None:
    found = terms.intensity_concepts(quantity, modality)
    assert (found[0].value, found[1].value, found[1].scheme) == (concept, unit, "UCUM")
