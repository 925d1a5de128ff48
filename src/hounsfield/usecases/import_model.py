"""Import a model of another kind: recognise it, ask, convert it in a jail, check it, build the package."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hounsfield.errors import AnswersMissing, OutputExists, PackageError, SourceError, SourceRefused, SourceUnknown
from hounsfield.importing import Claim, Draft, ImportLimits, convert_in_jail, look_in_jail, read_answers
from hounsfield.importing.answers import complete, template_toml
from hounsfield.importing.card import card_text
from hounsfield.importing.format import FORMATS
from hounsfield.importing.golden import GoldenResult, data_file, run_goldens
from hounsfield.packages import Manifest, ModelPackage, build
from hounsfield.packages.manifest import FORMAT_VERSION
from hounsfield.usecases.events import Note, OnEvent, silent

_MOST_FILES, _MOST_BYTES = 100_000, 64 * 1024**3


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and where to.

    Parameters
    ----------
    source
        A file or folder of another tool.
    output
        The folder that will hold the package folder; None only looks at the source.
    format
        One of the formats, where several claim the source.
    answers
        TOML file with what only the user can know.
    limits
        What the conversion may take.
    """

    source: Path
    output: Path | None = None
    format: str = ""
    answers: Path | None = None
    limits: ImportLimits = field(default_factory=ImportLimits)


@dataclass(frozen=True)
class ImportResult:
    """What was found, the template of what must be told, and the package if one was built."""

    claim: Claim
    template: str
    package: ModelPackage | None = None
    goldens: tuple[GoldenResult, ...] = ()
    parity: tuple[dict[str, Any], ...] = ()
    facts: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            **self.claim.as_dict(),
            "template_toml": self.template,
            "package": None if self.package is None else str(self.package.root),
            "package_digest": None if self.package is None else self.package.digest,
            "goldens": [golden.as_dict() for golden in self.goldens],
            "parity": list(self.parity),
            "facts": list(self.facts),
            "locks": list(self.locks),
        }


def import_model(request: ImportRequest, on_event: OnEvent = silent) -> ImportResult:
    """Import a model; without ``output`` only say what it is and what must be told.

    Raises
    ------
    SourceUnknown
        If no format claims the source, or several do.
    SourceRefused
        If it is a program, damaged, or not what it claims to be.
    AnswersMissing
        If an output was asked for and questions are left.
    PackageError, OutputError
        If what came out does not make a package; nothing is left behind.
    """
    digest = _digest(request.source)
    with tempfile.TemporaryDirectory(prefix="hounsfield-import-") as scratch:
        claim = _the_claim(request, Path(scratch))
        template = template_toml(claim.template, claim.questions)
        if request.output is None:
            return ImportResult(claim, template)
        if request.answers is None:
            raise AnswersMissing(
                f"{claim.title} needs answers that only you know",
                "run the command without -o for a template, answer it, and give it with --answers",
                request.source,
            )
        answers = complete(read_answers(request.answers), claim.template, request.answers)
        on_event(Note(f"converting {claim.title} in a confined process"))
        folder = _new(Path(scratch) / "convert")
        draft, locks = convert_in_jail(claim, request.source, answers, folder, request.limits)
        manifest = _manifest(draft)
        if (request.output / manifest.reference).exists():
            raise OutputExists(
                "something stands there already", "raise the version", request.output / manifest.reference
            )
        goldens = run_goldens(draft, folder, request.limits.threads)
        _check_parity(draft)
        on_event(Note(f"{len(goldens)} golden comparisons hold"))
        limits = tuple(str(line) for line in answers.get("package.limits", ()))
        card = card_text(manifest.model_dump(mode="json"), claim, draft, goldens, digest, limits)
        package = _build(request.output, manifest, draft, folder, card)
    parity = tuple(dict(vars(one)) for one in draft.parity)
    return ImportResult(claim, template, package, goldens, parity, draft.facts, locks)


def _the_claim(request: ImportRequest, scratch: Path) -> Claim:
    if request.format and request.format not in FORMATS:
        raise SourceError(f"there is no format {request.format!r}", f"use one of: {', '.join(sorted(FORMATS))}")
    claims = look_in_jail(request.source, _new(scratch / "look"), request.limits)
    mine = [claim for claim in claims if claim.format == request.format] if request.format else list(claims)
    if len(mine) == 1:
        return mine[0]
    if len(mine) > 1:
        raise SourceUnknown(
            "several formats claim it: " + "; ".join(f"{claim.format} ({claim.title})" for claim in mine),
            "choose one with --as",
            request.source,
        )
    known = ", ".join(sorted(FORMATS))
    if request.format:
        raise SourceUnknown(f"it is not what {request.format} looks like", f"formats: {known}", request.source)
    raise SourceUnknown(
        "no format claims it", f"docs/how-to/import.md says what is read; formats: {known}", request.source
    )


def _manifest(draft: Draft) -> Manifest:
    try:
        return Manifest.model_validate({"format": FORMAT_VERSION, **draft.manifest})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SourceError(
            f"the answers do not make a package: {where}: {first['msg']}", "correct the answers file"
        ) from None


def _check_parity(draft: Draft) -> None:
    for one in draft.parity:
        if not one.difference <= one.tolerance:
            raise SourceRefused(
                f"the converted network differs from {one.against} by {one.difference:.2g} of the largest answer",
                "please report this with the kind of source",
            )


def _build(output: Path, manifest: Manifest, draft: Draft, folder: Path, card: str) -> ModelPackage:
    files: dict[str, Path | bytes] = {place: data_file(folder, name) for place, name in draft.files.items()}
    try:
        return build(output, manifest, {**files, "card.md": card.encode("utf-8")})
    except PackageError as error:
        raise type(error)(f"the conversion does not make a package: {error.fact}", error.remedy, output) from error


def _new(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _digest(source: Path) -> str:
    """sha256 over the names and bytes of a plain file, or of a folder's files in order.

    Raises
    ------
    SourceRefused
        For links and special files, and for sources beyond any model's size.
    """
    total, count, digest = 0, 0, hashlib.sha256()
    for path in _plain_files(source):
        count, total = count + 1, total + path.stat().st_size
        if count > _MOST_FILES or total > _MOST_BYTES:
            raise SourceRefused("it is larger than any model", "give the model's own folder", source)
        name = path.name if path == source else path.relative_to(source).as_posix()
        with path.open("rb") as file:
            digest.update(f"{os.fsencode(name).hex()}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    if count == 0:
        raise SourceRefused("the folder is empty", "check the path", source)
    return digest.hexdigest()


def _plain_files(source: Path) -> Iterator[Path]:
    try:
        mode = source.lstat().st_mode
    except OSError as error:
        raise SourceUnknown(f"it cannot be read ({error.strerror})", "check the path", source) from error
    if stat.S_ISREG(mode):
        yield source
        return
    if not stat.S_ISDIR(mode):
        raise SourceRefused("it is a link or no plain file", "give the file or folder itself", source)
    for entry in sorted(source.iterdir()):
        yield from _plain_files(entry)
