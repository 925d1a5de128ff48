"""What stored values become: the check of what is declared, the rescale, and the dtype of the result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hounsfield.reading.frames.decode import is_native, is_supported, stored_dtype, syntax_name
from hounsfield.reading.instances import Frame, Instance, PixelFormat
from hounsfield.reading.limits import Limits
from hounsfield.reading.series import Issue
from hounsfield.reading.stacking import Stack
from hounsfield.reading.suv import pet_scale
from hounsfield.volume import Quantity

_AGAIN: Final = "fetch the file again from its source"


@dataclass(frozen=True, eq=False)
class Conversion:
    """Stored value to number: ``slope * stored + intercept``, or a modality LUT.

    ``lut`` holds the numbers of stored values from ``lut_first`` on; values beyond its ends take
    the end's number (PS3.3 C.11.1.1).
    """

    slope: float = 1.0
    intercept: float = 0.0
    lut: NDArray[Any] | None = None
    lut_first: int = 0

    @property
    def is_integral(self) -> bool:
        """Whether integers stay integers."""
        return self.lut is not None or (self.slope.is_integer() and self.intercept.is_integer())

    def span(self, low: int, high: int) -> tuple[float, float]:
        """Smallest and largest number that stored values from ``low`` to ``high`` can give."""
        if self.lut is not None:
            return float(self.lut.min()), float(self.lut.max())
        ends = (self.slope * low + self.intercept, self.slope * high + self.intercept)
        return min(ends), max(ends)

    def mirrored(self, low: int, high: int) -> Conversion:
        """The same range of numbers upside down, for MONOCHROME1."""
        if self.lut is not None:
            return Conversion(lut=self.lut.max() + self.lut.min() - self.lut, lut_first=self.lut_first)
        return Conversion(-self.slope, self.slope * (low + high) + self.intercept)


@dataclass(frozen=True, eq=False)
class PixelPlan:
    """All that loading needs: frames by time point and slice, and how each becomes numbers."""

    stacks: tuple[Stack, ...]
    frames: tuple[tuple[Frame, ...], ...]
    conversions: tuple[tuple[Conversion, ...], ...]
    quantity: Quantity
    first: Frame

    @classmethod
    def empty(cls, first: Frame) -> PixelPlan:
        """The plan of a series that has no voxels to load."""
        return cls((), (), (), Quantity.ARBITRARY, first)

    @classmethod
    def of_projection(cls, frame: Frame) -> PixelPlan:
        """One X-ray image, mirrored where it is stored as MONOCHROME1."""
        conversion = modality_conversion(frame)
        stored = frame.instance.format
        if stored.photometric == "MONOCHROME1":
            conversion = conversion.mirrored(*stored.stored_range)
        return cls((), ((frame,),), ((conversion,),), Quantity.ARBITRARY, frame)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance once, in slice order."""
        return tuple(dict.fromkeys(frame.instance for point in self.frames for frame in point))


def pixel_plan(stacks: tuple[Stack, ...], limits: Limits) -> tuple[PixelPlan, tuple[Issue, ...]]:
    """How the stacks of a volume or time series become numbers, and what stands in the way."""
    issues: list[Issue] = []
    frames = tuple(one.frames for one in stacks)
    first = frames[0][0]
    factor, quantity = 1.0, _quantity(first)
    if first.get("Modality") == "PT":
        factor, quantity, reason = pet_scale([frame for point in frames for frame in point])
        if reason:
            issues.append(Issue("no-suv", "warn", reason, "the values stay what is stored"))
    conversions = tuple(tuple(_scaled(modality_conversion(f), factor) for f in point) for point in frames)
    plan = PixelPlan(stacks, frames, conversions, quantity, first)
    if not all(math.isfinite(c.slope) and math.isfinite(c.intercept) and c.slope for p in conversions for c in p):
        issues.append(Issue("rescale", "refuse", "its rescale slope is zero or not a finite number", _AGAIN))
    else:
        size = result_bytes(plan)
        if size > limits.volume_bytes:
            message = (
                f"it takes {size / 2**30:.1f} GiB decoded, more than the {limits.volume_bytes / 2**30:.1f} allowed"
            )
            issues.append(Issue("limit", "refuse", message, "raise the limit if you trust the source"))
    return plan, tuple(issues)


def _quantity(frame: Frame) -> Quantity:
    is_ct = frame.get("Modality") == "CT" and str(frame.get("RescaleType", "HU")) in ("HU", "US")
    has_rescale = frame.get("RescaleIntercept") is not None
    return Quantity.HU if is_ct and has_rescale else Quantity.ARBITRARY


def modality_conversion(frame: Frame) -> Conversion:
    """The modality LUT or rescale of a frame (PS3.3 C.11.1)."""
    items = frame.get("ModalityLUTSequence") or []
    for item in items[:1]:
        descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
        if isinstance(descriptor, list) and len(descriptor) == 3 and isinstance(data, list):
            count = descriptor[0] or 65536
            first = descriptor[1] - 65536 if frame.instance.format.signed and descriptor[1] > 32767 else descriptor[1]
            if len(data) >= count:
                return Conversion(lut=np.asarray(data[:count], dtype=np.int64), lut_first=first)
    return Conversion(*frame.rescale)


def _scaled(conversion: Conversion, factor: float) -> Conversion:
    if factor == 1.0 or conversion.lut is not None:
        return conversion
    return Conversion(conversion.slope * factor, conversion.intercept * factor)


def result_dtype(plan: PixelPlan, *, exact: bool = False) -> np.dtype[Any]:
    """dtype of the loaded numbers.

    Integral rescale keeps integers: the stored dtype where it holds the result, else int16 or a
    wider one. A 16-bit CT whose declared range does not fit int16 is tried in int16 first and
    widened only if a value needs it (``exact`` asks for the declared range). Anything else is
    float32, or float64 where 32-bit integers or doubles are stored.
    """
    pairs = [
        (frame.instance.format, conversion)
        for frames, conversions in zip(plan.frames, plan.conversions, strict=True)
        for frame, conversion in zip(frames, conversions, strict=True)
    ]
    own = {stored_dtype(stored) for stored, _ in pairs}
    if any(stored.kind != "integer" for stored, _ in pairs) or not all(c.is_integral for _, c in pairs):
        narrow = all(stored_dtype(stored).itemsize <= 2 or stored.kind == "float" for stored, _ in pairs)
        return np.dtype(np.float32 if narrow else np.float64)
    spans = [conversion.span(*stored.stored_range) for stored, conversion in pairs]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    if not exact and low < 0 and max(dtype.itemsize for dtype in own) == 2:
        return np.dtype(np.int16)
    wider = [np.dtype(one) for one in (np.int16, np.uint16, np.int32, np.int64)]
    candidates = [*own, *wider] if len(own) == 1 else wider
    return next((dtype for dtype in candidates if _holds(dtype, low, high)), np.dtype(np.float64))


def _holds(dtype: np.dtype[Any], low: float, high: float) -> bool:
    info = np.iinfo(dtype)
    return bool(info.min <= low and high <= info.max)


def result_bytes(plan: PixelPlan) -> int:
    """Size of the loaded numbers at their widest, bytes, by what the headers declare."""
    stored = plan.first.instance.format
    voxels = sum(len(point) for point in plan.frames) * stored.rows * stored.columns
    return voxels * result_dtype(plan, exact=True).itemsize


def voxel_bytes(plan: PixelPlan) -> int:
    """Memory of one voxel as it will be loaded, with the mark that says whether it is padding."""
    padded = any(padding_range(frame) is not None for point in plan.frames for frame in point)
    return result_dtype(plan).itemsize + padded


def padding_range(frame: Frame) -> tuple[int, int] | None:
    """Smallest and largest stored value that is padding (PS3.3 C.7.5.1.1.2), or ``None``.

    A value that is written unsigned for signed pixels, or the other way round, is taken by its bits.
    """
    stored = frame.instance.format
    value = frame.get("PixelPaddingValue")
    if not isinstance(value, int) or stored.kind != "integer":
        return None
    limit = frame.get("PixelPaddingRangeLimit")
    ends = [_as_stored(one, stored) for one in (value, limit if isinstance(limit, int) else value)]
    return min(ends), max(ends)


def _as_stored(value: int, stored: PixelFormat) -> int:
    bits = stored.bits_allocated
    value &= (1 << bits) - 1
    return value - (1 << bits) if stored.signed and value >> (bits - 1) else value


def pixel_fault(instance: Instance, limits: Limits) -> Issue | None:
    """What makes the pixels of an instance unreadable, found without touching them."""
    stored = instance.format
    uid = stored.transfer_syntax_uid
    declared = stored.frame_bytes * instance.frame_count
    if instance.pixels is None:
        return Issue("pixels", "refuse", "it has no pixel data", _AGAIN)
    if not is_supported(uid):
        return Issue(
            "encoding", "refuse", f"no decoder for the transfer syntax {syntax_name(uid)}", "convert it to another"
        )
    if stored.rows < 1 or stored.columns < 1 or instance.frame_count < 1:
        size = f"{instance.frame_count} frames of {stored.rows} x {stored.columns} pixels"
        return Issue("pixels", "refuse", f"it declares {size}", _AGAIN)
    if not _bits_fit(stored):
        bits = f"{stored.bits_stored} bits stored in {stored.bits_allocated} up to bit {stored.high_bit}"
        return Issue("pixels", "refuse", f"its pixels are declared as {bits}", _AGAIN)
    if declared > limits.volume_bytes:
        message = (
            f"it declares {declared / 2**30:.1f} GiB of pixels, more than the {limits.volume_bytes / 2**30:.1f} allowed"
        )
        return Issue("limit", "refuse", message, "raise the limit if you trust the source")
    return _length_fault(instance, declared)


def _bits_fit(stored: PixelFormat) -> bool:
    allowed = (8, 16, 32) if stored.kind == "integer" else (32, 64)
    inside = 1 <= stored.bits_stored <= stored.bits_allocated
    return (
        stored.bits_allocated in allowed
        and inside
        and stored.bits_stored - 1 <= stored.high_bit < stored.bits_allocated
    )


def _length_fault(instance: Instance, declared: int) -> Issue | None:
    """Whether as many bytes are there as the header declares."""
    uid = instance.format.transfer_syntax_uid
    if is_native(uid) != (instance.length is not None):
        return Issue("pixels", "refuse", f"its pixels are not encoded as its transfer syntax {uid} says", _AGAIN)
    if not is_native(uid):
        if instance.frame_count > instance.available:
            fact = f"it declares {instance.frame_count} frames in {instance.available} bytes"
            return Issue("pixels", "refuse", fact, _AGAIN)
        return None
    there = min(instance.length or 0, instance.available)
    if there < declared:
        return Issue("pixels", "refuse", f"its pixels are cut short: {there} of {declared} bytes", _AGAIN)
    return None


def converted(stored: NDArray[Any], conversion: Conversion, out: NDArray[Any]) -> bool:
    """Stored values (rows, columns) into ``out`` as numbers; whether they all fit its dtype.

    Integers are computed modulo the width of ``out``, which is exact for whatever fits.
    """
    if conversion.lut is not None:
        index = np.clip(stored.astype(np.int64) - conversion.lut_first, 0, len(conversion.lut) - 1)
        np.copyto(out, conversion.lut[index], casting="unsafe")
        return True
    if out.dtype.kind == "f":
        wide = out.dtype.type
        np.multiply(stored, wide(conversion.slope), out=out, casting="unsafe")
        np.add(out, wide(conversion.intercept), out=out)
        return True
    fits = _fits(stored, conversion, out.dtype)
    if stored is not out and not np.may_share_memory(stored, out):
        np.copyto(out, stored, casting="unsafe")
    bits = out.view(f"u{out.dtype.itemsize}")
    modulus = 1 << (8 * out.dtype.itemsize)
    if conversion.slope != 1.0:
        np.multiply(bits, bits.dtype.type(int(conversion.slope) % modulus), out=bits)
    if conversion.intercept:
        np.add(bits, bits.dtype.type(int(conversion.intercept) % modulus), out=bits)
    return fits


def _fits(stored: NDArray[Any], conversion: Conversion, dtype: np.dtype[Any]) -> bool:
    own = np.iinfo(stored.dtype)
    if _holds(dtype, *conversion.span(own.min, own.max)):
        return True
    return _holds(dtype, *conversion.span(int(stored.min()), int(stored.max())))
