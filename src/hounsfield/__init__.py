"""hounsfield: run, prove, train and deploy medical-imaging AI on one's own machine.

>>> import hounsfield
>>> result = hounsfield.run("hippocampus-mr", "scan/", "out/")
>>> print(result.outputs)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hounsfield.version import __version__

if TYPE_CHECKING:
    from hounsfield.errors import HounsfieldError
    from hounsfield.packages import ModelPackage, open_package
    from hounsfield.reading import read, scan
    from hounsfield.usecases.run import RunRequest, RunResult, run
    from hounsfield.volume import Geometry, LabelMap, TimeSeries, Volume


_HOMES = {
    "HounsfieldError": "hounsfield.errors",
    "ModelPackage": "hounsfield.packages",
    "open_package": "hounsfield.packages",
    "read": "hounsfield.reading",
    "scan": "hounsfield.reading",
    "RunRequest": "hounsfield.usecases.run",
    "RunResult": "hounsfield.usecases.run",
    "run": "hounsfield.usecases.run",
    "Geometry": "hounsfield.volume",
    "LabelMap": "hounsfield.volume",
    "TimeSeries": "hounsfield.volume",
    "Volume": "hounsfield.volume",
}

__all__ = [
    "Geometry",
    "HounsfieldError",
    "LabelMap",
    "ModelPackage",
    "RunRequest",
    "RunResult",
    "TimeSeries",
    "Volume",
    "__version__",
    "open_package",
    "read",
    "run",
    "scan",
]


def __getattr__(name: str) -> Any:
    """Import a name of the front door when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hounsfield' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
