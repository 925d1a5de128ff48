"""QIDO-RS and WADO-RS without HTTP: searches, metadata, files, frames and pictures (PS3.18 10.4, 10.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hounsfield.department import catalogue
from hounsfield.department.catalogue import KEYS, LEVELS, Entry, Level, Match, Wanted
from hounsfield.errors import NotReadable, SettingsError
from hounsfield.reading.elements import Malformed
from hounsfield.reading.frames.decode import is_native
from hounsfield.reading.frames.serving import open_instance, plain_frames, shown_frame, stored_frames
from hounsfield.reading.whole_header import as_json, read_whole_header
from hounsfield.usecases.node.cataloguing import HEADER_LIMITS, SHOWN, catalogue_missing
from hounsfield.usecases.node.opening import Node
from hounsfield.writing.rendered import PictureKind, Window, picture

#: Media types of compressed frames (PS3.18 tables 8.7.3-2 to 8.7.3-5).
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **{f"1.2.840.10008.1.2.4.{n}": "image/jpeg" for n in (50, 51, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jls" for n in (80, 81)},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jp2" for n in (90, 91)},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jphc" for n in (201, 202, 203)},
}
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"


class NotHere(SettingsError):
    """Nothing here has this UID."""

    def __init__(self) -> None:
        super().__init__("nothing here has this UID", "search for what is here")


@dataclass(frozen=True)
class Frames:
    """Frames for an answer: their bytes, and how they are encoded."""

    transfer_syntax_uid: str
    media_type: str
    contents: tuple[bytes, ...]


def find(node: Node, wanted: Wanted) -> list[Match]:
    """Search; what was kept a moment ago is found."""
    catalogue_missing(node)
    with node.database.read() as connection:
        return catalogue.search(connection, wanted)


def answer(match: Match, level: Level, base: str) -> dict[str, Any]:
    """A match in the DICOM JSON Model, with the attributes of its level and those above."""
    entry, levels = match.entry, LEVELS[: LEVELS.index(level) + 1]
    found = {tag: entry.attributes[tag] for one in levels for tag in SHOWN[one] if tag in entry.attributes}
    found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    found["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    uids = {"0020000D": entry.study_uid, "0020000E": entry.series_uid, "00080018": entry.sop_instance_uid}
    url = base
    for part, tag in zip(("studies", "series", "instances")[: len(levels)], uids, strict=False):
        found[tag] = {"vr": "UI", "Value": [uids[tag]]}
        url += f"/{part}/{uids[tag]}"
    found["00081190"] = {"vr": "UR", "Value": [url]}
    if level == "study":
        found["00080061"] = {"vr": "CS", "Value": list(match.modalities)}
        found["00201206"] = {"vr": "IS", "Value": [match.series]}
        found["00201208"] = {"vr": "IS", "Value": [match.instances]}
    elif level == "series":
        found["00201209"] = {"vr": "IS", "Value": [match.instances]}
    else:
        found["00080016"] = {"vr": "UI", "Value": [entry.sop_class_uid]}
    return dict(sorted(found.items()))


def known_key(name: str) -> str:
    """The keyword of a query parameter, which may be a keyword or a tag; empty if it is not matched on."""
    from pydicom.datadict import keyword_for_tag

    keywords = {keyword for keys in KEYS.values() for keyword in keys}
    if len(name) == 8 and all(c in "0123456789abcdefABCDEF" for c in name):
        name = keyword_for_tag(int(name, 16))
    return name if name in keywords else ""


def entries(node: Node, study: str, series: str = "", instance: str = "") -> list[Entry]:
    """Every instance of a study, of a series, or one.

    Raises
    ------
    NotHere
        If there is none.
    """
    catalogue_missing(node)
    with node.database.read() as connection:
        found = catalogue.entries(connection, study, series, instance)
    if not found:
        raise NotHere
    return found


def metadata(node: Node, found: Sequence[Entry], base: str) -> Iterator[dict[str, Any]]:
    """The whole header of each instance in the DICOM JSON Model; large values by URI."""
    for entry in found:
        url = f"{base}/studies/{entry.study_uid}/series/{entry.series_uid}/instances/{entry.sop_instance_uid}"
        try:
            parsed = read_whole_header(node.root / entry.place, HEADER_LIMITS)
            told = as_json(parsed, lambda tag, url=url: f"{url}/bulkdata/{tag:08X}")  # type: ignore[misc]
        except (Malformed, OSError):
            told = dict(entry.attributes)
        told["00083002"] = {"vr": "UI", "Value": [entry.transfer_syntax_uid]}
        yield dict(sorted(told.items()))


def path_of(node: Node, entry: Entry) -> Path:
    """The file of an instance."""
    return node.root / entry.place


def bulk(node: Node, entry: Entry, tag: int) -> bytes:
    """The value of a binary element of the outermost level; of the pixels, all frames uncompressed.

    Raises
    ------
    NotHere
        If there is no such element.
    NotReadable
        If the file is damaged.
    """
    if tag in (0x7FE00008, 0x7FE00009, 0x7FE00010):
        instance = open_instance(path_of(node, entry))
        return b"".join(plain_frames(instance, range(1, instance.frame_count + 1)))
    try:
        raw = read_whole_header(path_of(node, entry), HEADER_LIMITS).item.get(tag)
    except (Malformed, OSError):
        raise NotReadable("its header is damaged", "fetch the instance as a file") from None
    if raw is None or raw.items or tag >> 16 == 0x0002:
        raise NotHere
    return raw.value


def frames(node: Node, entry: Entry, numbers: Sequence[int], takes: Sequence[tuple[str, str]]) -> Frames | None:
    """Frames in a form that the caller takes, as stored if possible; ``None`` if it takes none of what we have.

    Parameters
    ----------
    takes
        Pairs of media type and transfer syntax, in order of preference; ``"*"`` for any.
    """
    instance, own = open_instance(path_of(node, entry)), entry.transfer_syntax_uid
    compressed = MEDIA_TYPES.get(own)
    for kind, syntax in takes:
        if compressed and kind in (compressed, "*/*", "image/*") and syntax in (own, "*", ""):
            return Frames(own, compressed, tuple(stored_frames(instance, numbers)))
        if compressed and kind == "application/octet-stream" and syntax in (own, "*"):
            return Frames(own, kind, tuple(stored_frames(instance, numbers)))
        if (
            kind in ("application/octet-stream", "*/*")
            and syntax in (EXPLICIT_LITTLE, "*", "")
            and (is_native(own) or compressed)
        ):
            return Frames(EXPLICIT_LITTLE, "application/octet-stream", tuple(plain_frames(instance, numbers)))
    return None


@dataclass(frozen=True)
class Look:
    """How a picture is wanted."""

    kind: PictureKind = "jpeg"
    window: Window | None = None
    fit_px: tuple[int, int] | None = None
    quality: int = 90


def rendered(node: Node, entry: Entry, number: int, look: Look) -> bytes:
    """A frame as a picture, in the window asked for, else in its own, else with its whole range.

    Raises
    ------
    NotReadable, UnsupportedEncoding, LimitExceeded
        If it cannot be decoded.
    """
    instance = open_instance(path_of(node, entry))
    values = shown_frame(instance, number)
    frame = instance.frames[number - 1]
    window = look.window or _own_window(frame.number_of("WindowCenter"), frame.number_of("WindowWidth"))
    inverted = instance.format.photometric == "MONOCHROME1"
    return picture(values, window, look.kind, inverted=inverted, fit_px=look.fit_px, quality=look.quality)


def _own_window(centre: float | None, width: float | None) -> Window | None:
    return None if centre is None or width is None or width < 1 else Window(centre, width)


def middle(found: Sequence[Entry]) -> Entry:
    """The instance that stands for a study or series: the middle one of those with rows."""
    images = [one for one in found if "00280010" in one.attributes]
    if not images:
        raise NotHere
    return images[len(images) // 2]
