"""Answers for imports in tests: a template filled in where it asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.packages.manifest_text import emit_table
from hounsfield.usecases.import_model import ImportRequest, ImportResult, import_model

_CATEGORY = {"value": "123037004", "scheme": "SCT", "meaning": "Anatomical Structure"}
_TYPE = {"value": "12738006", "scheme": "SCT", "meaning": "Brain"}
CHANNEL = {"name": "t1", "modality": "MR", "quantity": "arbitrary"}


def answers(
    labels: list[str], *, channels: list[Mapping[str, Any]] | None = None, modality: str = "MR", **tables: Any
) -> dict[str, Any]:
    """A full set of answers for a segmentation model; ``tables`` replace or add top-level tables."""
    given = {
        "package": {"id": "imported", "version": "1.0.0", "title": "Imported", "intended_use": "Tests only."},
        "licence": {"weights": "MIT", "data": "not stated"},
        "input": {"channels": [dict(one) for one in (channels or [CHANNEL])]},
        "domain": {"modality": {"allowed": [modality], "breach": "refuse"}},
        "output": {"segments": [{"label": label, "category": _CATEGORY, "type": _TYPE} for label in labels]},
    }
    for name, table in tables.items():
        given[name] = {**given.get(name, {}), **table} if isinstance(table, Mapping) else table
    return given


def do_import(source: Path, folder: Path, given: Mapping[str, Any], format: str = "") -> ImportResult:
    """Write the answers and import; the package lies in ``folder / "packages"``."""
    lines: list[str] = []
    emit_table(given, "", lines)
    path = folder / "answers.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return import_model(ImportRequest(source, folder / "packages", format, path))


def onnx_answer(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ONNX Runtime answers, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return answer
