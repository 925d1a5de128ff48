"""What a package lacks to be trusted: evidence, licences, codes, and a card that says for whom.

Nothing here judges a model. It names what a reader of a result would look for and not find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hounsfield.packages.evidence import Evidence
from hounsfield.packages.manifest import Code
from hounsfield.packages.package import ModelPackage

About = Literal["evidence", "licence", "codes", "card", "signature"]

FEWEST_CASES = 20
_UNKNOWN = re.compile(
    r"\s*(\?+|-+|n/?a|none|tbd|todo|unknown|not (stated|known)|unspecified|see .*)\.?\s*", re.IGNORECASE
)
_SCHEMES = ("SCT", "DCM", "RADLEX", "FMA", "LN", "NCIT", "SRT", "UMLS", "UBERON", "ICD10")
#: Verhoeff's dihedral multiplication and permutation (SNOMED CT identifiers, RF2 specification section 5.5).
_MULTIPLY = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
)
_PERMUTE = (
    *("0123456789", "1576283094", "5803796142", "8916043527"),
    *("9453126870", "4286573901", "2793806415", "7046913258"),
)


@dataclass(frozen=True)
class Lack:
    """One thing that is missing, and what to do about it."""

    about: About
    fact: str
    remedy: str


def lacks(package: ModelPackage) -> tuple[Lack, ...]:
    """Everything that a verified package lacks to be trusted; empty when nothing is missing."""
    return (*_evidence(package), *_licence(package), *_codes(package), *_card(package), *_signature(package))


def _evidence(package: ModelPackage) -> Iterator[Lack]:
    run = "hounsfield evaluate PACKAGE DATASET -o RESULTS --fill FOLDER, on cases that took no part in the training"
    for precision in dict.fromkeys(graph.precision for graph in package.manifest.graphs):
        evidence = package.evidence(precision)
        if evidence is None:
            yield Lack("evidence", f"{precision} has no evidence", run)
            continue
        if getattr(evidence.data, "use", "") == "validation":
            yield Lack("evidence", f"{precision} was only measured on validation cases, which chose the weights", run)
        if evidence.data.cases < FEWEST_CASES:
            yield Lack("evidence", f"{precision} was measured on {evidence.data.cases} cases only", run)
        missing = _unscored(package, evidence)
        if missing:
            yield Lack("evidence", f"{precision} has no score for {', '.join(missing)}", run)


def _unscored(package: ModelPackage, evidence: Evidence) -> list[str]:
    """Labels of segments that no score is about; a score without a segment is about all."""
    scored = {score.segment for score in evidence.scores}
    if not package.manifest.output.segments or scored == {None}:
        return []
    return [spec.label for spec in package.manifest.output.segments if spec.number not in scored]


def _licence(package: ModelPackage) -> Iterator[Lack]:
    licence = package.manifest.licence
    for name, text in (("weights", licence.weights), ("data", licence.data)):
        if _UNKNOWN.fullmatch(text):
            yield Lack(
                "licence", f"the licence of the {name} is {text!r}", f"ask who made them, and state [licence] {name}"
            )


def _codes(package: ModelPackage) -> Iterator[Lack]:
    meant: dict[tuple[str, ...], str] = {}
    for spec in package.manifest.output.segments:
        for what, code in (("category", spec.category), ("type", spec.type), ("modifier", spec.modifier)):
            if code is not None:
                yield from _code(spec.label, what, code)
        modifier = (spec.modifier.scheme, spec.modifier.value) if spec.modifier else ()
        key = (spec.type.scheme, spec.type.value, *modifier)
        if key in meant:
            fact = f"{meant[key]} and {spec.label} carry the same code {spec.type.scheme} {spec.type.value}"
            yield Lack("codes", fact, "give each its own type, or a modifier such as left and right")
        meant.setdefault(key, spec.label)


def _code(label: str, what: str, code: Code) -> Iterator[Lack]:
    if code.scheme.startswith("99") or code.scheme not in _SCHEMES:
        fact = f"the {what} of {label} is of the scheme {code.scheme}, which other systems do not know"
        yield Lack("codes", fact, "use SNOMED CT (SCT) or another public scheme")
    elif code.scheme == "SCT" and not valid_sct(code.value):
        fact = f"the {what} of {label}, SCT {code.value}, is no SNOMED CT identifier (its check digit is wrong)"
        yield Lack("codes", fact, "look the code up again")


def valid_sct(text: str) -> bool:
    """Whether a text has the form of a SNOMED CT identifier: 6 to 18 digits, Verhoeff's check digit last."""
    if not re.fullmatch(r"[1-9][0-9]{5,17}", text):
        return False
    check = 0
    for place, digit in enumerate(reversed(text)):
        check = int(_MULTIPLY[check][int(_PERMUTE[place % 8][int(digit)])])
    return check == 0


def _card(package: ModelPackage) -> Iterator[Lack]:
    card = package.card()
    headings = [line[3:].strip().lower() for line in card.splitlines() if line.startswith("## ")]
    if "limits" not in headings:
        yield Lack("card", "the card has no section Limits", "write what the model cannot do under '## Limits'")
    if "not evaluated yet" in card.lower():
        yield Lack(
            "card", "the card says that it was not evaluated", "evaluate it; --fill writes the figures into the card"
        )
    words = ("works worse", "worse for", "for whom", "subgroup", "by sex", "by age")
    if not any(word in card.lower() for word in words):
        fact = "the card does not say for whom it works worse"
        yield Lack(
            "card", fact, "evaluate by sex, age and scanner (--by), and write it under '## For whom it works worse'"
        )


def _signature(package: ModelPackage) -> Iterator[Lack]:
    if package.signature is None:
        yield Lack("signature", "it is unsigned", "build it again with --sign, so that its origin can be checked")
