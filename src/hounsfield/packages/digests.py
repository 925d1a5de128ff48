"""``digests.json``: the sha256 of every other file, in one canonical form.

The package's digest is the sha256 of these bytes. The form is canonical (sorted keys, fixed
spacing), so equal content has equal bytes and a package has exactly one digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from hounsfield.errors import PackageInvalid, PackageRefused
from hounsfield.packages.inventory import DIGESTS, SIGNATURE, opened, place_of, read_small, shown

UNLISTED = (DIGESTS, SIGNATURE)
_REBUILD = "get the package again, or build it again if it is yours"


def encode(digests: Mapping[str, str]) -> bytes:
    """The canonical bytes of ``digests.json`` for ``{path: sha256 in hex}``."""
    table = {"format": 1, "sha256": dict(sorted(digests.items()))}
    return (json.dumps(table, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def decode(data: bytes, path: Path) -> dict[str, str]:
    """The table of ``digests.json``; bytes that are not the canonical form are refused.

    Raises
    ------
    PackageInvalid
        If it is not canonical JSON of the right shape.
    PackageRefused
        If it names a path that a package cannot hold.
    """
    try:
        table = json.loads(data.decode("ascii"))
        digests = table["sha256"]
        good = all(re.fullmatch(r"[0-9a-f]{64}", value) for value in digests.values()) and encode(digests) == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PackageInvalid(fact="it is not a table of sha256 digests", remedy=_REBUILD, path=path) from error
    if not good:
        raise PackageInvalid(fact="it is not in the canonical form", remedy=_REBUILD, path=path)
    for name in digests:
        place_of(name)
    return dict(digests)


def sha256_of(root: Path, name: str) -> str:
    """The sha256 of a file of the package, in hex."""
    with opened(root, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(root: Path, sizes: Mapping[str, int]) -> tuple[dict[str, str], str]:
    """Compare every file with ``digests.json``; return the table and the package's digest.

    Parameters
    ----------
    root
        The package folder.
    sizes
        Its inventory (:func:`hounsfield.packages.inventory.take_inventory`).

    Raises
    ------
    PackageInvalid
        If a file is missing, extra, or has other content.
    """
    if DIGESTS not in sizes:
        raise PackageInvalid(fact=f"it has no {DIGESTS}", remedy=_REBUILD, path=root)
    data = read_small(root, DIGESTS)
    try:
        listed = decode(data, root / DIGESTS)
    except PackageRefused as error:
        raise PackageRefused(error.fact, error.remedy, root / DIGESTS) from None
    present = set(sizes) - set(UNLISTED)
    for names, what in (
        (present - set(listed), "is not listed in"),
        (set(listed) - present, "is missing, but listed in"),
    ):
        if names:
            raise PackageInvalid(fact=f"{shown(min(names))} {what} {DIGESTS}", remedy=_REBUILD, path=root)
    for name, expected in listed.items():
        if sha256_of(root, name) != expected:
            raise PackageInvalid(fact="its sha256 is not the listed one", remedy=_REBUILD, path=root / name)
    return listed, hashlib.sha256(data).hexdigest()
