"""Fix the patient-level splits of the hippocampus cases in ``splits.json``.

The Medical Segmentation Decathlon publishes no patient ids for Task04. The intensities give
them away: cases 2n-1 and 2n carry the same intensity quantum (the scale factor of one scan),
because they are the two hippocampi of one person. ``subject = (number + 1) // 2`` therefore
keeps both sides of a person in one part; 31 of the 32 shared quanta in the 200 cases are such
pairs, and the remaining one (245, 300) is put into one part by hand.

Usage: python make_splits.py FOLDER_WITH_IMAGES
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 20261122
TEST_CASES, VALIDATION_CASES = 40, 10
SAME_PERSON = {300: 245}


def subject_of(name: str) -> int:
    """The inferred person of a case name such as ``hippocampus_051``."""
    number = int(name.rsplit("_", 1)[1])
    return (SAME_PERSON.get(number, number) + 1) // 2


def split(names: list[str]) -> dict[str, list[str]]:
    """Deal whole subjects into test, validation and training, in a seeded random order."""
    subjects = sorted({subject_of(name) for name in names})
    random.Random(SEED).shuffle(subjects)
    parts: dict[str, list[str]] = {"test": [], "validation": [], "training": []}
    for subject in subjects:
        members = [name for name in names if subject_of(name) == subject]
        if len(parts["test"]) < TEST_CASES:
            parts["test"] += members
        elif len(parts["validation"]) < VALIDATION_CASES:
            parts["validation"] += members
        else:
            parts["training"] += members
    return {part: sorted(members) for part, members in parts.items()}


def main() -> None:
    images = Path(sys.argv[1])
    names = sorted(path.name.removesuffix(".nii.gz") for path in images.glob("*.nii.gz"))
    document = {"seed": SEED, "unit": "subject = (case number + 1) // 2", **split(names)}
    Path(__file__).with_name("splits.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
