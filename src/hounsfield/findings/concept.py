"""Coded concepts (PS3.3 section 8, PS3.16)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LOCAL_SCHEME: Final = "99HOUNSFIELD"


@dataclass(frozen=True)
class CodedConcept:
    """Code Value, Coding Scheme Designator and Code Meaning.

    ``scheme`` is ``"SCT"``, ``"DCM"``, ``"UCUM"``, ``"RADLEX"`` ... or a local ``"99..."``.
    """

    value: str
    scheme: str
    meaning: str

    @property
    def is_local(self) -> bool:
        """Whether the code is from a private scheme, not from a standard terminology."""
        return self.scheme.startswith("99")


def local_concept(label: str) -> CodedConcept:
    """A code in hounsfield's own scheme for a label nobody has coded: never a guessed one."""
    value = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:16] or "UNNAMED"
    return CodedConcept(value, LOCAL_SCHEME, label[:64])
