"""The promise that a format makes, and the closed list of formats.

To add one: a module in ``hounsfield.importing.formats`` with ``claims`` and ``convert``, and a line
in :data:`FORMATS`. Both functions run inside the jail only.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from hounsfield.importing.answers import Answers
from hounsfield.importing.claim import Claim
from hounsfield.importing.draft import Draft

#: Name of each format, and the module that reads it.
FORMATS = {
    "nnunet": "hounsfield.importing.formats.nnunet",
    "nnunet-models": "hounsfield.importing.formats.nnunet_models",
    "programs": "hounsfield.importing.formats.programs",
    "hippodeep": "hounsfield.importing.formats.hippodeep",
    "lwnet": "hounsfield.importing.formats.lwnet",
    "meshnet": "hounsfield.importing.formats.meshnet",
    "monai": "hounsfield.importing.formats.monai_bundle",
    "onnx": "hounsfield.importing.formats.onnx_model",
    "pytorch": "hounsfield.importing.formats.pytorch",
}


class Format(Protocol):
    """One kind of source.

    Contract
    --------
    - ``claims`` looks at names, first bytes and small texts only; it is cheap, loads no
      framework and answers ``None`` for anything that is not clearly its own. It raises
      SourceRefused where the source is clearly its own and must not be imported.
    - ``convert`` turns the source into data files in ``folder`` and names them in the draft. It
      trusts nothing of the source, executes nothing of it, and raises SourceRefused with
      one clear line. What the answers lack it never guesses.
    - ``HEAVY`` names the modules to import before the jail closes (they may start threads and open
      files of their own): ``("torch",)``.
    - Both see the source read-only, can write only below ``folder``, and have no network.

    It is not a plug-in: a format decides what may become a package, so the list is closed.
    """

    HEAVY: tuple[str, ...]

    def claims(self, source: Path) -> Claim | None:
        """What the source is, or ``None``."""
        ...

    def convert(self, source: Path, answers: Answers, folder: Path) -> Draft:
        """Data files in ``folder``, and what they mean."""
        ...


def format_module(name: str) -> Format:
    """The module of a format of the list."""
    return cast(Format, importlib.import_module(FORMATS[name]))
