"""What a conversion hands out of the jail: tables and the names of data files, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Golden:
    """A case with a known answer, computed from the source's weights in the jail.

    Parameters
    ----------
    image
        ``.npy`` file in the conversion's folder: (batch, channels, k, j, i) float32.
    answer
        ``.npy`` file: what the source's network answers, (batch, classes, ...) float32.
    made_by
        What computed the answer, with its version.
    tolerance
        Largest difference allowed, as a fraction of the largest answer.
    graph
        Which graph of the package it is for.
    """

    image: str
    answer: str
    made_by: str
    tolerance: float = 1e-3
    graph: str = "graphs/fp32.onnx"


@dataclass(frozen=True)
class Parity:
    """A comparison with an independent implementation, made in the jail.

    ``difference`` is the largest difference as a fraction of the largest answer.
    """

    against: str
    difference: float
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Draft:
    """A package to be: the parent checks every part before anything is built from it.

    Parameters
    ----------
    manifest
        The table of ``manifest.toml``, without ``format``.
    files
        For each path in the package (``graphs/fp32.onnx``, ``weights.safetensors`` ...) the name
        of the file in the conversion's folder.
    facts
        How the package was made, one plain line each, for the model card.
    limits
        What it cannot do or was not checked for, one plain line each, for the model card.
    goldens
        At least one case with a known answer.
    parity
        Comparisons made where the source's own framework is installed.
    """

    manifest: Mapping[str, Any]
    files: Mapping[str, str]
    facts: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    goldens: tuple[Golden, ...] = ()
    parity: tuple[Parity, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the way out of the jail."""
        return {
            "manifest": dict(self.manifest),
            "files": dict(self.files),
            "facts": list(self.facts),
            "limits": list(self.limits),
            "goldens": [vars(golden) for golden in self.goldens],
            "parity": [vars(one) for one in self.parity],
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Draft:
        """The draft that :meth:`as_dict` made."""
        return cls(
            manifest=table["manifest"],
            files={str(place): str(name) for place, name in table["files"].items()},
            facts=tuple(str(line) for line in table["facts"]),
            limits=tuple(str(line) for line in table["limits"]),
            goldens=tuple(Golden(**golden) for golden in table["goldens"]),
            parity=tuple(Parity(**one) for one in table["parity"]),
        )
