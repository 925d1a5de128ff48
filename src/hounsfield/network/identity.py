"""Who this node says it is, on the network and in the files that it stores (PS3.7 D.3.3.2, PS3.10 7.1)."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.272499908323049905449965734757304387198"
#: Without a number: it is part of every stored file, and so of the digest that finds duplicates.
IMPLEMENTATION_VERSION_NAME: Final = "HOUNSFIELD"

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"

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
