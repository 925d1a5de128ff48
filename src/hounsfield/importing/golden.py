"""Golden cases: the package's graph in each installed engine against answers made from the source's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import EngineUnavailable, PluginError, SourceRefused
from hounsfield.importing.draft import Draft, Golden

ENGINES = ("onnxruntime", "openvino")
_MOST_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class GoldenResult:
    """One golden case in one engine; ``difference`` is a fraction of the largest answer."""

    engine: str
    made_by: str
    difference: float
    tolerance: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for ``--json``."""
        return dict(vars(self))


def run_goldens(draft: Draft, folder: Path, threads: int = 1) -> tuple[GoldenResult, ...]:
    """Run every golden case in fp32 in every engine that is installed.

    Parameters
    ----------
    draft
        What the conversion says it made.
    folder
        Where its files lie.

    Raises
    ------
    SourceRefused
        If there is no case, an engine refuses the graph or answers something else.
    """
    if not draft.goldens:
        raise SourceRefused("the conversion made no golden case", "please report this")
    results = [
        _run(name, golden, draft.files, folder, threads)
        for golden in draft.goldens
        for name in ENGINES
        if _usable(name)
    ]
    for result in results:
        if not result.difference <= result.tolerance:
            raise SourceRefused(
                f"{result.engine} differs from {result.made_by} by {result.difference:.2g} of the largest answer",
                "please report this with the kind of source",
            )
    return tuple(results)


def data_file(folder: Path, name: str) -> Path:
    """A file that the jail left: plain, not linked, directly in its folder.

    Raises
    ------
    SourceRefused
        If it is anything else.
    """
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise SourceRefused("the conversion names a file that it did not leave", "do not trust the source")
    return path


def _usable(name: str) -> bool:
    from hounsfield.inference.engine import engine

    try:
        engine(name)
    except (EngineUnavailable, PluginError):
        return False
    return True


def _run(name: str, golden: Golden, files: Mapping[str, str], folder: Path, threads: int) -> GoldenResult:
    from hounsfield.errors import EngineError
    from hounsfield.inference.engine import LoadSettings, OnnxGraph, engine

    image, expected = _array(folder, golden.image), _array(folder, golden.answer)
    if image.ndim != 5 or golden.graph not in files:
        raise SourceRefused("a golden case does not fit the package", "please report this")
    window = (image.shape[2], image.shape[3], image.shape[4])
    settings = LoadSettings("fp32", window, channels=image.shape[1], batch=image.shape[0], threads=threads)
    try:
        session = engine(name).load(OnnxGraph(data_file(folder, files[golden.graph])), settings)
        try:
            found = np.array(session.infer(image))
        finally:
            session.close()
    except EngineError as error:
        raise SourceRefused(f"{name} cannot run the converted graph ({error.fact})", "please report this") from error
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise SourceRefused(
            f"{name} answers {found.shape} with the converted graph, not {expected.shape} finite numbers",
            "check that the source's weights are whole",
        )
    scale = max(float(np.abs(expected).max()), 1e-6)
    return GoldenResult(name, golden.made_by, float(np.abs(found - expected).max()) / scale, golden.tolerance)


def _array(folder: Path, name: str) -> NDArray[np.float32]:
    path = data_file(folder, name)
    if path.stat().st_size > _MOST_BYTES:
        raise SourceRefused("a golden case is too large", "please report this")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SourceRefused("a golden case cannot be read", "please report this") from error
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise SourceRefused("the source's network answers what is no finite number", "check its weights")
    return np.ascontiguousarray(array)
