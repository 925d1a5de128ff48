"""A strict walk over the data elements of one DICOM file (PS3.5 section 7).

It keeps the few elements of ``tags``, passes over the rest by their length, stops at the pixels,
and never trusts a number: lengths must fit what is left, sequences may nest only so deep, and the
elements are counted. Everything that it rejects is a ``Malformed`` with one plain sentence.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from hounsfield.reading import tags
from hounsfield.reading.limits import Limits

Item = dict[int, "Raw"]
Buffer = bytes | memoryview


class Malformed(ValueError):
    """The bytes do not follow the standard; the text says where."""


class TooMuch(Malformed):
    """The file asks for more than the limits allow."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One kept element: its VR (empty if implicit), and its bytes or items."""

    vr: bytes
    value: bytes
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Parsed:
    """The kept elements of a file, and where its pixels are.

    Parameters
    ----------
    item
        Elements by tag, group 0002 included.
    pixels
        ``"integer"``, ``"float"``, ``"double"``, or ``None`` where there are no pixels.
    offset
        First byte of the pixel value, in the file (or in the inflated data set).
    length
        Its declared length; ``None`` if encapsulated.
    available
        Bytes from ``offset`` to the end of the file.
    """

    item: Item
    transfer_syntax_uid: str
    little: bool
    pixels: str | None
    offset: int
    length: int | None
    available: int
    inflated_from: int | None = None


_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


def parse(data: Buffer, limits: Limits, walker: type[Walk] | None = None) -> Parsed:
    """Parse the header of a whole file.

    Parameters
    ----------
    walker
        Another way to keep elements than :class:`Walk`, which keeps those of ``tags``.

    Raises
    ------
    Malformed
        If it is not DICOM, or damaged.
    TooMuch
        If it nests too deep, or holds too many or too large elements.
    """
    start = 132 if bytes(data[128:132]) == b"DICM" else 0
    if len(data) < start + 8:
        raise Malformed("the file is too short to be DICOM")
    walker = walker or Walk
    walk = walker(data, limits, explicit=True, little=True)
    meta: Item = {}
    position = walk.meta(start, meta)
    uid = _uid(meta) or _guessed(data, position)
    if uid == tags.DEFLATED:
        return _parse_deflated(data, position, meta, limits, walker)
    return _parse_set(data, position, meta, uid, limits, walker)


def _parse_set(data: Buffer, position: int, meta: Item, uid: str, limits: Limits, walker: type[Walk]) -> Parsed:
    if position + 8 > len(data):
        raise Malformed("the file ends after its meta information")
    little = uid != tags.EXPLICIT_BIG
    # Some files are not what their transfer syntax says: the first VR tells.
    explicit = bytes(data[position + 4 : position + 6]) in _LONG | _SHORT
    walk = walker(data, limits, explicit=explicit, little=little)
    item = dict(meta)
    position = walk.items_until_pixels(position, item)
    return Parsed(item, uid, little, walk.pixels, position, walk.pixel_length, len(data) - position)


def _parse_deflated(data: Buffer, position: int, meta: Item, limits: Limits, walker: type[Walk]) -> Parsed:
    """Inflate as much as the header needs, in growing pieces, never more than the limit."""
    size = 1 << 20
    while True:
        inflated, done = inflate(data[position:], size)
        try:
            parsed = _parse_set(inflated, 0, {}, tags.EXPLICIT_LITTLE, limits, walker)
        except TooMuch:
            raise
        except Malformed:
            if done:
                raise
            size *= 8
            if size > limits.header_bytes:
                raise TooMuch(f"the header inflates beyond {limits.header_bytes} bytes") from None
            continue
        item = {**meta, **parsed.item}
        # The declared length stands in for what is there; loading inflates and counts.
        available = parsed.available if done else max(parsed.available, parsed.length or 0)
        return Parsed(
            item, tags.DEFLATED, True, parsed.pixels, parsed.offset, parsed.length, available, inflated_from=position
        )


def inflate(data: Buffer, size: int) -> tuple[bytes, bool]:
    """At most ``size`` inflated bytes of a deflated data set (PS3.5 A.5), and whether that is all.

    Raises
    ------
    Malformed
        If the stream is damaged.
    """
    stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, size)
    except zlib.error as error:
        raise Malformed(f"the deflated data set is damaged ({error})") from None
    return inflated, stream.eof or len(inflated) < size


def _uid(meta: Item) -> str:
    raw = meta.get(0x00020010)
    return "" if raw is None else raw.value.rstrip(b"\0 ").decode("ascii", "replace")


def _guessed(data: Buffer, position: int) -> str:
    """The transfer syntax of a data set without meta information, by how its first element looks."""
    if bytes(data[position : position + 2]) == b"\x00\x08":
        return tags.EXPLICIT_BIG
    explicit = bytes(data[position + 4 : position + 6]) in _LONG | _SHORT
    return tags.EXPLICIT_LITTLE if explicit else tags.IMPLICIT_LITTLE


class Walk:
    """A position-free walker over one buffer in one encoding."""

    def __init__(self, data: Buffer, limits: Limits, *, explicit: bool, little: bool) -> None:
        self.data = data
        self.limits = limits
        self.explicit = explicit
        self.count = 0
        self.pixels: str | None = None
        self.pixel_length: int | None = None
        order = "<" if little else ">"
        self.unpack_tag = struct.Struct(f"{order}HH").unpack_from
        self.unpack_short = struct.Struct(f"{order}H").unpack_from
        self.unpack_long = struct.Struct(f"{order}I").unpack_from

    def meta(self, position: int, into: Item) -> int:
        """Read group 0002 and return where the data set starts."""
        end = len(self.data)
        while position + 8 <= end and self.unpack_short(self.data, position)[0] == 0x0002:
            tag, vr, length, value = self.head(position, end)
            if length == tags.UNDEFINED:
                raise Malformed("the file meta information is damaged")
            if tag in tags.KIND:
                into[tag] = Raw(vr, bytes(self.data[value : value + length]))
            position = value + length
        return position

    def head(self, position: int, end: int) -> tuple[int, bytes, int, int]:
        """(tag, VR, length, first byte of the value) of the element at ``position``."""
        data = self.data
        group, element = self.unpack_tag(data, position)
        tag = group << 16 | element
        self.count += 1
        if self.count > self.limits.elements:
            raise TooMuch(f"there are more than {self.limits.elements} data elements in the header")
        vr = b""
        value = position + 8
        if not self.explicit or group == 0xFFFE:
            length = self.unpack_long(data, position + 4)[0]
        else:
            vr = bytes(data[position + 4 : position + 6])
            if vr in _SHORT:
                length = self.unpack_short(data, position + 6)[0]
            elif vr in _LONG and position + 12 <= end:
                length = self.unpack_long(data, position + 8)[0]
                value = position + 12
            else:
                raise Malformed(f"element ({group:04x},{element:04x}) has no value representation")
        if length != tags.UNDEFINED and value + length > end and tag not in tags.PIXEL_DATA:
            left = end - value
            raise Malformed(f"element ({group:04x},{element:04x}) claims {length} bytes where {left} are left")
        return tag, vr, length, value

    def items_until_pixels(self, position: int, into: Item) -> int:
        """Read the data set into ``into``; return where the pixel value starts (or the end)."""
        end = len(self.data)
        while position + 8 <= end:
            tag, vr, length, value = self.head(position, end)
            if tag in tags.PIXEL_DATA:
                self.pixels = tags.PIXEL_DATA[tag]
                self.pixel_length = None if length == tags.UNDEFINED else length
                return value
            position = self.element(tag, vr, length, value, end, 1, into)
        if position != end and bytes(self.data[position:end]).strip(b"\0"):
            raise Malformed("the file ends in the middle of a data element")
        return position

    def element(self, tag: int, vr: bytes, length: int, value: int, end: int, depth: int, into: Item | None) -> int:
        """Keep or pass over one element; return where the next one starts."""
        kind = tags.KIND.get(tag)
        if length == tags.UNDEFINED or (kind == "q" and into is not None):
            return self.sequence(tag, vr, length, value, end, depth, into if kind == "q" else None)
        if kind is not None and kind != "q" and into is not None:
            into[tag] = Raw(vr, bytes(self.data[value : value + length]))
        return value + length

    def sequence(self, tag: int, vr: bytes, length: int, position: int, end: int, depth: int, into: Item | None) -> int:
        """Read the items of a sequence, keeping them only if ``into`` is given."""
        if depth > self.limits.depth:
            raise TooMuch(f"sequences are nested deeper than {self.limits.depth}")
        explicit = self.explicit
        if vr == b"UN":
            self.explicit = False  # PS3.5 6.2.2 note 2: UN of undefined length is implicit little endian
        stop = end if length == tags.UNDEFINED else position + length
        items: list[Item] = []
        while position + 8 <= stop:
            item_tag, _, item_length, value = self.head(position, stop)
            if item_tag == tags.SEQUENCE_END:
                position = value
                break
            if item_tag != tags.ITEM:
                raise Malformed(
                    f"a sequence holds ({item_tag >> 16:04x},{item_tag & 0xFFFF:04x}) where an item belongs"
                )
            kept: Item | None = None if into is None else {}
            position = self.item(value, item_length, stop, depth, kept)
            if kept is not None:
                items.append(kept)
        else:
            if length == tags.UNDEFINED:
                raise Malformed("a sequence has no end")
            position = stop
        self.explicit = explicit
        if into is not None:
            into[tag] = Raw(vr, b"", tuple(items))
        return position

    def item(self, position: int, length: int, end: int, depth: int, into: Item | None) -> int:
        """Read one item of a sequence and return where the next one starts."""
        stop = end if length == tags.UNDEFINED else position + length
        if length != tags.UNDEFINED and into is None:
            return stop
        while position + 8 <= stop:
            tag, vr, size, value = self.head(position, stop)
            if tag == tags.ITEM_END:
                return value
            position = self.element(tag, vr, size, value, stop, depth + 1, into)
        if length == tags.UNDEFINED:
            raise Malformed("an item of a sequence has no end")
        return stop
