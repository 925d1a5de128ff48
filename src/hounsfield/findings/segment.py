"""Labelled structures (PS3.3 C.8.20.4, Segment Description)."""

from __future__ import annotations

from dataclasses import dataclass

from hounsfield.findings.concept import CodedConcept


@dataclass(frozen=True)
class Segment:
    """One label of a label map.

    Parameters
    ----------
    number
        The value in the label map, from 1.
    label
        Short human name, at most 64 characters.
    category, type
        Segmented Property Category and Type.
    type_modifier
        Laterality or other modifier, if any.
    lesion
        True when each connected component is a finding of its own.
    colour_rgb
        Recommended display colour, 0-255.
    """

    number: int
    label: str
    category: CodedConcept
    type: CodedConcept
    type_modifier: CodedConcept | None = None
    lesion: bool = False
    colour_rgb: tuple[int, int, int] = (230, 60, 60)
