"""ModelPackage: a verified package folder as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hounsfield.errors import PackageInvalid
from hounsfield.packages.evidence import Evidence, parse_evidence
from hounsfield.packages.inventory import CARD, WEIGHTS, read_small
from hounsfield.packages.manifest import GraphSpec, Manifest, Precision
from hounsfield.packages.signature import Signature


@dataclass(frozen=True)
class ModelPackage:
    """A model package whose files were checked against their digests.

    Get one from :func:`hounsfield.packages.open_package`, ``verify``, ``build`` or ``install``;
    the constructor checks nothing.

    Parameters
    ----------
    root
        The package folder.
    manifest
        What it eats, what it may read, what it answers.
    digest
        sha256 of ``digests.json``, in hex: the identity of the package, in every result.
    files
        sha256 of every file, by relative path.
    size_bytes
        Of all files together.
    signature
        None for an unsigned package.
    """

    root: Path
    manifest: Manifest = field(repr=False)
    digest: str
    files: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    size_bytes: int = 0
    signature: Signature | None = None

    @property
    def reference(self) -> str:
        """``id-version``."""
        return self.manifest.reference

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that have a graph of their own, then those that only have evidence."""
        own = [graph.precision for graph in self.manifest.graphs]
        return tuple(dict.fromkeys([*own, *(item.precision for item in self.manifest.evidence)]))

    def graph(self, precision: Precision, step: str | None = None) -> GraphSpec:
        """The graph that runs at a precision; bf16 and fp16 arithmetic may run the fp32 graph.

        In a package of steps that of ``step``, by default of the last one.

        Raises
        ------
        PackageInvalid
            If there is none; the remedy lists those it has.
        """
        graph = self.manifest.graph_for(precision, step)
        if graph is not None:
            return graph
        raise PackageInvalid(
            fact=f"{self.reference} has no {precision} graph",
            remedy=f"choose one of: {', '.join(self.precisions)}",
            path=self.root,
        )

    def graph_path(self, precision: Precision, step: str | None = None) -> Path:
        """The file of :meth:`graph`."""
        return self.root / self.graph(precision, step).file

    @property
    def weights_path(self) -> Path | None:
        """``weights.safetensors``, if the package has reference weights."""
        return self.root / WEIGHTS if WEIGHTS in self.files else None

    def evidence(self, precision: Precision) -> Evidence | None:
        """The evidence for a precision; None means that it is unproven."""
        for item in self.manifest.evidence:
            if item.precision == precision:
                return parse_evidence(read_small(self.root, item.file), self.root / item.file)
        return None

    def why_unproven(self, precision: Precision) -> str:
        """What a precision lacks before it may be relied on, in words; empty where it is proven.

        The graph as it was trained needs evidence. Any other precision beside an fp32 graph is a variant of
        it, and needs a passed gate as well. A gate that was asked, as that of a student against its teacher,
        counts in every precision.
        """
        evidence = self.evidence(precision)
        if evidence is None:
            return f"no evidence for {precision}"
        if evidence.gate is None:
            variant = precision != "fp32" and self.manifest.graph_for("fp32") is not None
            return f"no gate for {precision}" if variant else ""
        told = {"pass": "", "fail": f"a failed gate for {precision}", "undecided": f"an undecided gate for {precision}"}
        return told[evidence.gate.verdict]

    def proven(self) -> tuple[Precision, ...]:
        """The precisions that may be relied on."""
        return tuple(one for one in self.precisions if not self.why_unproven(one))

    def card(self) -> str:
        """The model card: Markdown text, to be escaped by whoever shows it as HTML."""
        return read_small(self.root, CARD).decode("utf-8")

    @property
    def signed(self) -> str:
        """One line: unsigned, or signed by whom and whether that was checked."""
        return "unsigned" if self.signature is None else str(self.signature)
