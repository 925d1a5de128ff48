"""Who this node says it is, on the network and in the files that it stores (PS3.7 D.3.3.2, PS3.10 7.1)."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.272499908323049905449965734757304387198"
#: Without a number: it is part of every stored file, and so of the digest that finds duplicates.
IMPLEMENTATION_VERSION_NAME: Final = "HOUNSFIELD"

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
#: The one instance of the push model (PS3.4 J.3.5).
STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
PATIENT_ROOT: Final = "1.2.840.10008.5.1.4.1.2.1."
STUDY_ROOT: Final = "1.2.840.10008.5.1.4.1.2.2."
#: Ends of the UIDs of both roots: FIND, MOVE, GET (PS3.4 table C.6.1.3-1).
FIND, MOVE, GET = "1", "2", "3"

_IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
#: Transfer syntaxes that are taken (PS3.6 table A-1): the bytes are stored as they come.
TRANSFER_SYNTAXES: Final = frozenset(
    (
        _IMPLICIT_LITTLE,
        _EXPLICIT_LITTLE,
        "1.2.840.10008.1.2.1.99",  # deflated
        "1.2.840.10008.1.2.2",  # explicit big endian (retired)
        "1.2.840.10008.1.2.5",  # RLE
        *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93)),  # JPEG, JPEG-LS, JPEG 2000
        *(f"1.2.840.10008.1.2.4.{n}" for n in (100, 101, 102, 103, 104, 105, 106, 107, 108)),  # MPEG, HEVC
        *(f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203)),  # High-Throughput JPEG 2000
    )
)
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_OTHER_STORAGE: Final = (
    "1.2.840.10008.5.1.4.34.7",  # RT beams delivery instruction
    "1.2.840.10008.5.1.4.34.10",
    "1.2.840.10008.5.1.4.38.1",  # hanging protocol
    "1.2.840.10008.5.1.4.39.1",  # colour palette
    "1.2.840.10008.5.1.4.43.1",  # generic implant template
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
)


#: Storage classes that are offered when instances are fetched by C-GET: what an image archive holds.
FETCHED_CLASSES: Final = tuple(
    _STORAGE_ROOT + end
    for end in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, MG, IO
        *("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "128", "130", "128.1"),  # CT, MR, PET
        *("3.1", "6.1", "6.2", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1"),
        *("13.1.2", "13.1.3", "20", "77.1.1", "77.1.2", "77.1.4", "77.1.5.1", "77.1.5.4", "77.1.6"),
        *("11.1", "11.2", "30", "66", "66.1", "66.3", "66.4", "66.5", "66.7", "67"),  # presentation states, SEG
        *("88.11", "88.22", "88.33", "88.34", "88.50", "88.59", "88.67", "88.71", "104.1", "104.2"),  # reports
        *("481.1", "481.2", "481.3", "481.4", "481.5", "481.8", "9.1.1", "9.1.2"),  # radiotherapy, waveforms
    )
)
#: Syntaxes that are offered for them, the preferred first.
FETCHED_SYNTAXES: Final = (
    _EXPLICIT_LITTLE,
    _IMPLICIT_LITTLE,
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1.99",
)


def is_storage_class(uid: str) -> bool:
    """Whether a SOP class is one of the Storage Service (PS3.4 annex B and GG)."""
    return uid.startswith(_STORAGE_ROOT) or uid in _OTHER_STORAGE


def choose_transfer_syntax(offered: tuple[str, ...], *, stored: bool) -> str | None:
    """One of the offered syntaxes: explicit little endian first, else the sender's first that is known.

    Parameters
    ----------
    stored
        Whether data sets are only stored, so that compressed ones are fine; what this node must
        understand itself is little endian.
    """
    understood = TRANSFER_SYNTAXES if stored else frozenset((_IMPLICIT_LITTLE, _EXPLICIT_LITTLE))
    if _EXPLICIT_LITTLE in offered:
        return _EXPLICIT_LITTLE
    return next((uid for uid in offered if uid in understood), None)
