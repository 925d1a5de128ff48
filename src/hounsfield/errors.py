"""One tree of exceptions; each names the file, the fact and the remedy.

::

    HounsfieldError
    ├── InputError                 the scan (or data set) cannot be used as it is
    │   ├── NothingToRead          no image in the folder, archive or file
    │   ├── NotReadable            truncated, damaged, or not what its name says
    │   ├── UnsupportedEncoding    a transfer syntax or format without a decoder here
    │   ├── GeometryRefused        gaps, tilt, uneven spacing, mixed orientation ...
    │   ├── AmbiguousInput         several series fit; the user must choose
    │   └── LimitExceeded          reading would take more memory or time than allowed
    ├── PackageError               the model package
    │   ├── PackageNotFound        no installed package, no such folder
    │   ├── PackageInvalid         the manifest or a file does not follow the format
    │   └── PackageRefused         it holds what a package must never hold
    ├── SourceError                a model of another kind that is to be imported
    │   ├── SourceUnknown          no format claims it, or several do
    │   ├── SourceRefused          it is a program, is damaged, or does not fit
    │   └── AnswersMissing         what only its user can know was not answered
    ├── DomainRefused              the model must not read this scan
    ├── DoesNotFit                 no plan keeps the budget
    ├── EngineError                an inference engine failed
    │   └── EngineUnavailable      it is not installed, or cannot run this graph
    ├── OutputError                a result could not be written
    │   ├── OutputExists           something stands there already
    │   └── ReadBackFailed         what was written does not read back the same
    ├── TrainingError              a training diverged, or cannot be continued
    ├── PluginError                an extension is missing, broken, or claimed twice
    ├── SettingsError              a setting or an argument does not make sense
    └── InternalError              a fault of hounsfield itself
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class HounsfieldError(Exception):
    """Base of all errors that hounsfield raises on purpose.

    Parameters
    ----------
    fact
        What is the case, in plain words, without a full stop.
    remedy
        What the reader can do about it, without a full stop.
    path
        The file or folder it is about, if any.
    """

    def __init__(self, fact: str, remedy: str, path: str | Path | None = None) -> None:
        super().__init__(fact, remedy, path)
        self.fact = fact
        self.remedy = remedy
        self.path = None if path is None else Path(path)

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        return f"{where}{self.fact}; {self.remedy}"

    def as_dict(self) -> dict[str, Any]:
        """The error as data, for ``--json``."""
        return {
            "error": type(self).__name__,
            "path": None if self.path is None else str(self.path),
            "fact": self.fact,
            "remedy": self.remedy,
        }


class InputError(HounsfieldError):
    """The scan or data set cannot be used as it is."""


class NothingToRead(InputError):
    """No image was found where one was expected."""


class NotReadable(InputError):
    """The file is truncated, damaged, or not what it claims to be."""


class UnsupportedEncoding(InputError):
    """No decoder here reads this transfer syntax or format."""


class GeometryRefused(InputError):
    """The slices do not form a volume that a model may read."""


class AmbiguousInput(InputError):
    """Several series fit; the user must choose one."""


class LimitExceeded(InputError):
    """Reading would take more memory or time than allowed."""


class PackageError(HounsfieldError):
    """A model package cannot be used."""


class PackageNotFound(PackageError):
    """No installed package and no folder has this name."""


class PackageInvalid(PackageError):
    """The manifest or a file of the package does not follow the format."""


class PackageRefused(PackageError):
    """The package holds what a package must never hold."""


class SourceError(HounsfieldError):
    """A model of another kind cannot be imported."""


class SourceUnknown(SourceError):
    """No format claims the source, or several do."""


class SourceRefused(SourceError):
    """The source is a program, is damaged, or does not fit what it claims to be."""


class AnswersMissing(SourceError):
    """What only the user can know of a model was not answered."""


class DomainRefused(HounsfieldError):
    """The model must not read this scan."""


class DoesNotFit(HounsfieldError):
    """No plan keeps the budget."""


class EngineError(HounsfieldError):
    """An inference engine failed."""


class EngineUnavailable(EngineError):
    """The engine is not installed, or cannot run this graph."""


class OutputError(HounsfieldError):
    """A result could not be written."""


class OutputExists(OutputError):
    """Something stands where the result should go."""


class ReadBackFailed(OutputError):
    """What was written does not read back the same."""


class TrainingError(HounsfieldError):
    """A training diverged, or cannot be started or continued."""


class PluginError(HounsfieldError):
    """An extension is missing, broken, or claimed by two distributions."""


class SettingsError(HounsfieldError):
    """A setting or an argument does not make sense."""


class InternalError(HounsfieldError):
    """A fault of hounsfield itself, not of the input."""
