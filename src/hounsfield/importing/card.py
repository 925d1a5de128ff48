"""The model card of an imported package: where it comes from, how it was made, what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.importing.claim import Claim
from hounsfield.importing.draft import Draft
from hounsfield.importing.golden import GoldenResult
from hounsfield.version import __version__


def card_text(
    manifest: Mapping[str, Any],
    claim: Claim,
    draft: Draft,
    goldens: Sequence[GoldenResult],
    source_sha256: str,
    limits: Sequence[str] = (),
) -> str:
    """The card as Markdown; texts from the source are escaped to plain words."""
    licence = manifest["licence"]
    made = [
        f"Imported from: {claim.title} (source digest `{source_sha256}`).",
        *draft.facts,
        *(f"Parity with {one.against}: largest difference {one.difference:.1e}." for one in draft.parity),
        *(f"Golden case of {one.made_by} in {one.engine}, fp32: {one.difference:.1e}." for one in goldens),
        f"hounsfield {__version__}. Differences are fractions of the largest answer.",
    ]
    known = [*limits, *draft.limits, "Not evaluated here: no accuracy is claimed for this package."]
    lines = [
        f"# {plain(manifest['title'])}",
        "",
        f"Research use only. {plain(manifest['intended_use'])}",
        "",
        "## How it was made",
        "",
        *(f"- {plain(line)}" for line in made),
        "",
        "## Limits",
        "",
        *(f"- {plain(line)}" for line in known),
        "",
        "## How good it is",
        "",
        "Not evaluated yet: run `hounsfield evaluate` on cases that took no part in the training.",
        "",
        "## Licences",
        "",
        f"- Weights: {plain(licence['weights'])}",
        f"- Data: {plain(licence['data'])} {plain(licence.get('attribution', ''))}".rstrip(),
    ]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """One line without the characters that Markdown or HTML would act on."""
    return " ".join(str(text).replace("<", "(").replace(">", ")").split())
