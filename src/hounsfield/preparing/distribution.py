"""Exact statistics of the voxels of a scan without a float64 copy of it.

Integer scans of at most 16 bits are counted once (65,536 values), whatever their size; others
are walked slice by slice. Quantiles equal ``numpy.quantile`` (linear method) on the float64
values bit for bit: they are order statistics, found by counting, not by approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import InputError
from hounsfield.preparing.mapped import release

Floats = NDArray[np.float64]
Mapping = Callable[[Floats], Floats]

_DIGIT_BITS = 16
_RELEASE_EVERY = 16


class Distribution(Protocol):
    """The values of a scan without its padding, after elementwise steps already decided.

    Contract: ``mapping`` is elementwise; statistics are those of ``mapping(values)`` in float64.
    """

    def quantiles(self, fractions: tuple[float, ...], mapping: Mapping) -> tuple[float, ...]:
        """As ``numpy.quantile(mapping(values), fractions)``."""
        ...

    def moments(self, mapping: Mapping, non_zero_only: bool) -> tuple[float, float]:
        """Mean and (population) standard deviation, of the non-zero values if asked."""
        ...


def distribution(array: NDArray[Any], padding: NDArray[np.bool_] | None) -> Distribution:
    """Look at a scan once and answer for its statistics.

    Parameters
    ----------
    array
        (slices, rows, columns), any real dtype, possibly memory-mapped.
    padding
        Same shape, True where there is no measurement; those voxels are left out.

    Raises
    ------
    InputError
        If no voxel is left, or a voxel is not a finite number.
    """
    if array.dtype.kind in "iub" and array.dtype.itemsize <= 2:
        return _Counted(array, padding)
    return _Walked(array, padding)


def _planes(array: NDArray[Any], padding: NDArray[np.bool_] | None) -> Iterator[NDArray[Any]]:
    for index in range(array.shape[0]):
        plane = array[index]
        yield plane.ravel() if padding is None else plane[~padding[index]]
        if index % _RELEASE_EVERY == _RELEASE_EVERY - 1:
            release(array)
            release(padding)
    release(array)
    release(padding)


def _empty() -> InputError:
    return InputError(fact="every voxel of the scan is padding", remedy="check the pixel padding value of the scan")


def _between(low: float, high: float, t: float) -> float:
    """numpy's linear interpolation of two order statistics, with its rounding."""
    step = high - low
    return high - step * (1 - t) if t >= 0.5 else low + step * t


def _ranks(fraction: float, n: int) -> tuple[int, int, float]:
    at = fraction * (n - 1)
    low = int(np.floor(at))
    return low, min(low + 1, n - 1), at - low


class _Counted:
    """A table of the distinct values and how often each occurs."""

    def __init__(self, array: NDArray[Any], padding: NDArray[np.bool_] | None) -> None:
        kind = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype
        offset = int(np.iinfo(kind).min)
        counts = np.zeros(2 ** (8 * kind.itemsize), np.int64)
        for plane in _planes(array, padding):
            shifted = plane.astype(np.int32) - offset
            counts += np.bincount(shifted, minlength=len(counts))
        present = np.flatnonzero(counts)
        if len(present) == 0:
            raise _empty()
        self._values: Floats = (present + offset).astype(np.float64)
        self._counts = counts[present]

    def quantiles(self, fractions: tuple[float, ...], mapping: Mapping) -> tuple[float, ...]:
        values = mapping(self._values)
        order = np.argsort(values, kind="stable")
        upto = np.cumsum(self._counts[order])
        answers = []
        for fraction in fractions:
            low, high, t = _ranks(fraction, int(upto[-1]))
            at = [float(values[order[np.searchsorted(upto, rank, side="right")]]) for rank in (low, high)]
            answers.append(_between(at[0], at[1], t))
        return tuple(answers)

    def moments(self, mapping: Mapping, non_zero_only: bool) -> tuple[float, float]:
        values, counts = mapping(self._values), self._counts
        if non_zero_only:
            values, counts = values[values != 0], counts[values != 0]
        n = int(counts.sum())
        if n == 0:
            return 0.0, 0.0
        mean = float((values * counts).sum() / n)
        return mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / n))


class _Walked:
    """The scan itself, walked slice by slice for each question."""

    def __init__(self, array: NDArray[Any], padding: NDArray[np.bool_] | None) -> None:
        self._array, self._padding = array, padding
        n = bad = 0
        for plane in _planes(array, padding):
            n += plane.size
            bad += plane.size - int(np.isfinite(plane).sum())
        if n == 0:
            raise _empty()
        if bad:
            raise InputError(fact=f"{bad} voxels are not finite numbers", remedy="repair or replace them in the scan")
        self._n = n

    def _mapped(self, mapping: Mapping) -> Iterator[Floats]:
        for plane in _planes(self._array, self._padding):
            yield mapping(plane.astype(np.float64))

    def quantiles(self, fractions: tuple[float, ...], mapping: Mapping) -> tuple[float, ...]:
        wanted = [_ranks(fraction, self._n) for fraction in fractions]
        ranks = sorted({rank for low, high, _ in wanted for rank in (low, high)})
        value = self._order_statistics(ranks, mapping)
        return tuple(_between(value[low], value[high], t) for low, high, t in wanted)

    def _order_statistics(self, ranks: list[int], mapping: Mapping) -> dict[int, float]:
        """Radix selection: fix 16 of the 64 bits of the sortable key in each of four passes."""
        found = {rank: (0, rank) for rank in ranks}  # prefix of the key, rank among those with it
        for level in range(64 // _DIGIT_BITS):
            shift = np.uint64(64 - _DIGIT_BITS * (level + 1))
            tables = {prefix: np.zeros(2**_DIGIT_BITS, np.int64) for prefix, _ in found.values()}
            for values in self._mapped(mapping):
                keys = _keys(values) >> shift
                for prefix, table in tables.items():
                    mine = keys if level == 0 else keys[(keys >> np.uint64(_DIGIT_BITS)) == np.uint64(prefix)]
                    digits = (mine & np.uint64(2**_DIGIT_BITS - 1)).astype(np.int64)
                    table += np.bincount(digits, minlength=len(table))
            for rank, (prefix, within) in found.items():
                upto = np.cumsum(tables[prefix])
                digit = int(np.searchsorted(upto, within, side="right"))
                before = int(upto[digit - 1]) if digit else 0
                found[rank] = ((prefix << _DIGIT_BITS) | digit, within - before)
        return {rank: _value(key) for rank, (key, _) in found.items()}

    def moments(self, mapping: Mapping, non_zero_only: bool) -> tuple[float, float]:
        n, mean, squares = 0, 0.0, 0.0
        for values in self._mapped(mapping):
            mine = values[values != 0] if non_zero_only else values
            if mine.size == 0:
                continue
            # Chan, Golub, LeVeque 1983: combine the moments of two parts.
            its_mean = float(mine.mean())
            its_squares = float(((mine - its_mean) ** 2).sum())
            total = n + mine.size
            squares += its_squares + (its_mean - mean) ** 2 * n * mine.size / total
            mean += (its_mean - mean) * mine.size / total
            n = total
        return mean, float(np.sqrt(squares / n)) if n else 0.0


def _keys(values: Floats) -> NDArray[np.uint64]:
    """uint64 keys that sort as the float64 values do (IEEE 754 total order, -0 as 0)."""
    bits = (values + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    return np.where(negative, ~bits, bits | np.uint64(1 << 63))


def _value(key: int) -> float:
    bits = key & ~(1 << 63) if key >> 63 else ~key & (2**64 - 1)
    return float(np.uint64(bits).view(np.float64))
