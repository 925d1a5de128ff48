"""The types in which activations are kept between stages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineError, SettingsError

STORAGES = ("fp32", "fp16", "bf16")


def storage_dtype(storage: str) -> np.dtype[Any]:
    """The array type of a storage.

    Raises
    ------
    SettingsError
        If it is none of ``STORAGES``.
    """
    if storage == "fp32":
        return np.dtype(np.float32)
    if storage == "fp16":
        return np.dtype(np.float16)
    if storage == "bf16":
        import ml_dtypes

        kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return kind
    raise SettingsError(f"activations cannot be stored as {storage!r}", f"choose one of {', '.join(STORAGES)}")


def to_storage(block: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The block in the storage type.

    Raises
    ------
    EngineError
        If a value is too large for fp16: it would silently become infinite.
    """
    if dtype == block.dtype:
        return block
    if dtype == np.float16:
        with np.errstate(over="ignore"):
            small = block.astype(np.float16)
        if not np.isfinite(small).all():
            raise EngineError(
                "an activation is larger than fp16 can hold, or not a number", "store activations as bf16 or fp32"
            )
        return small
    return block.astype(dtype)
