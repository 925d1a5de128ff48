"""A data set is a table: one row per case, with image, label, patient, split and anything else.

``.csv`` (comma, semicolon or tab; UTF-8) or ``.jsonl`` (one object per line). Columns:

=================  ==========================================================================
``image``          path of the scan (file or folder), relative to the table; for several
                   channels ``image_NAME`` per channel
``label``          path of the label map; may be empty where annotators are given
``annotator_N``    paths of the label maps of single annotators (``annotator_1`` ...)
``patient_id``     who was scanned; never shown, only compared
``split``          ``train``, ``validation``, ``test``, or any other word
``case_id``        optional name of the row; ``row-0001`` and so on without it
anything else      kept as it is: sex, age_years, manufacturer, site, targets ...
=================  ==========================================================================
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hounsfield.errors import InputError

_KNOWN: Final = ("image", "label", "patient_id", "split", "case_id")
_SHOWN: Final = 8
_TABLE_BYTES: Final = 512 * 2**20
Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One row.

    Parameters
    ----------
    id
        Name of the row within the table.
    images
        (channel name, path); the name is ``""`` for the single column ``image``.
    label
        Path of the reference label map; ``None`` where the table has none.
    annotators
        Paths of single annotators' label maps, in the order of their numbers.
    patient_id
        Only for grouping; do not print it.
    split
        Empty where the table has no such column.
    columns
        All other cells.
    """

    id: str
    images: tuple[tuple[str, Path], ...]
    label: Path | None
    patient_id: str = field(repr=False)
    split: str = ""
    annotators: tuple[Path, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every path of the case."""
        label = () if self.label is None else (self.label,)
        return (*(path for _, path in self.images), *label, *self.annotators)


@dataclass(frozen=True)
class Dataset:
    """A table that was checked: files are there, ids are unique, no patient is in two splits."""

    path: Path
    cases: tuple[Case, ...]
    columns: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in the order of the alphabet."""
        return tuple(sorted({case.split for case in self.cases}))

    def part(self, split: str) -> Dataset:
        """Only the cases of a split.

        Raises
        ------
        InputError
            If it has none; the remedy names those that exist.
        """
        kept = tuple(case for case in self.cases if case.split == split)
        if not kept:
            names = ", ".join(repr(name) for name in self.splits if name) or "none; add a column 'split'"
            raise InputError(f"no case is in the split {split!r}", f"choose one of: {names}", self.path)
        return replace(self, cases=kept)

    def digest(self) -> str:
        """sha256 over the ids, cells and the contents of all files, in hex.

        Independent of the order of rows, of where the files lie and what they are called.
        """
        total = hashlib.sha256()
        for case in sorted(self.cases, key=lambda case: case.id):
            facts: list[Any] = [case.id, case.patient_id, case.split, sorted(case.columns.items())]
            facts += [[name, content_digest(path)] for name, path in case.images]
            facts.append(None if case.label is None else content_digest(case.label))
            facts += [content_digest(path) for path in case.annotators]
            total.update(json.dumps(facts, ensure_ascii=True, separators=(",", ":")).encode("ascii"))
        return total.hexdigest()


def read_dataset(
    path: str | Path, *, split_file: str | Path | None = None, labels: bool = True, images: bool = True
) -> Dataset:
    """Read and check a table.

    Parameters
    ----------
    split_file
        JSON object from split name to a list of case ids; replaces the column ``split``. Cases
        that it does not name are left out.
    labels
        Whether every case needs a label map (or those of annotators).
    images
        Whether every case needs an image; a table of records has none.

    Raises
    ------
    InputError
        If the table cannot be read, a column is missing (with a guess at a misspelt one), a file
        is missing, an id or image occurs twice, or a patient is in more than one split. All
        problems of one kind are told at once; rows are named, patients are not.
    """
    table = Path(path)
    rows = _rows(table)
    columns = tuple(rows[0])
    _check_columns(columns, table, labels, images)
    cases = [_case(row, number, table.parent) for number, row in enumerate(rows, start=1)]
    _check_cells(cases, table, labels, images)
    if split_file is not None:
        cases = _with_split(cases, Path(split_file))
    dataset = Dataset(table, tuple(cases), columns)
    _check_files(dataset)
    _check_leakage(dataset)
    return dataset


def content_digest(path: Path) -> str:
    """sha256 of a file, or of the relative names and contents of all files in a folder, in hex."""
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            total.update(f"{file.relative_to(path).as_posix()}\0{content_digest(file)}\n".encode())
        return total.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def identical_images(dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """Ids of cases whose images have the same content under other names, each group once.

    Reads every image. Across splits or patients such a group is a leak that ids cannot show.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for case in dataset.cases:
        groups[" ".join(content_digest(path) for _, path in case.images)].append(case.id)
    return tuple(tuple(ids) for ids in groups.values() if len(ids) > 1)


def _rows(table: Path) -> list[Row]:
    try:
        if table.stat().st_size > _TABLE_BYTES:
            raise InputError(f"the table is larger than {_TABLE_BYTES >> 20} MiB", "split it", table)
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("the table is not UTF-8 text", "save it as CSV in UTF-8", table) from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(
            f"the table cannot be read ({reason})", "give the path of a .csv or .jsonl file", table
        ) from None
    if table.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        raise InputError("it is not a table that is read here", "give a .csv, .tsv or .jsonl file", table)
    rows = _json_rows(text, table) if table.suffix.lower() == ".jsonl" else _csv_rows(text, table)
    if not rows:
        raise InputError("the table has no rows", "add one row per case", table)
    return rows


def _csv_rows(text: str, table: Path) -> list[Row]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(f"the table is not valid CSV ({error})", "save it again as CSV", table) from None
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        return []
    names = [name.strip() for name in lines[0]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        raise InputError(f"a column name is empty or occurs twice: {twice}", "name every column once", table)
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(names):
            fact = f"row {number} has {len(line)} cells, the header has {len(names)}"
            raise InputError(fact, "correct that row (quote cells that hold the separator)", table)
    return [dict(zip(names, (cell.strip() for cell in line), strict=True)) for line in lines[1:]]


def _json_rows(text: str, table: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"line {number} is not JSON", "write one object per line", table) from None
        if not isinstance(values, dict) or any(isinstance(v, list | dict) for v in values.values()):
            raise InputError(f"line {number} is not an object of plain values", "write one flat object per line", table)
        rows.append({str(k).strip(): "" if v is None else str(v).strip() for k, v in values.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]


def _check_columns(columns: Sequence[str], table: Path, labels: bool, images: bool) -> None:
    missing = [] if not images or any(c == "image" or c.startswith("image_") for c in columns) else ["image"]
    if labels and "label" not in columns and not any(c.startswith("annotator_") for c in columns):
        missing.append("label")
    if "patient_id" not in columns:
        missing.append("patient_id")
    if not missing:
        return
    hints = []
    for name in missing:
        free = [c for c in columns if c not in _KNOWN]
        near = difflib.get_close_matches(name, [c.lower() for c in free], n=1, cutoff=0.5)
        guess = next((c for c in free if near and c.lower() == near[0]), None)
        hints.append(f"{name!r} (did you mean {guess!r}?)" if guess else repr(name))
    fact = f"the table has no column {', '.join(hints)}; it has: {', '.join(columns)}"
    raise InputError(fact, "rename or add the column", table)


def _case(row: Row, number: int, folder: Path) -> Case:
    images = [(name.removeprefix("image").lstrip("_"), row[name]) for name in row if re.match(r"image(_|$)", name)]
    annotators = sorted((n for n in row if n.startswith("annotator_")), key=lambda n: (len(n), n))
    used = {"label", "patient_id", "split", "case_id", *annotators}
    return Case(
        id=row.get("case_id", f"row-{number:04d}"),
        images=tuple((name, folder / cell) for name, cell in images if cell),
        label=folder / row["label"] if row.get("label") else None,
        patient_id=row["patient_id"],
        split=row.get("split", ""),
        annotators=tuple(folder / row[name] for name in annotators if row[name]),
        columns={k: v for k, v in row.items() if k not in used and not re.match(r"image(_|$)", k)},
    )


def _check_cells(cases: Sequence[Case], table: Path, labels: bool, images: bool) -> None:
    problems = []
    for number, case in enumerate(cases, start=1):
        if not case.id:
            problems.append(f"row {number} has no case_id")
        if images and not case.images:
            problems.append(f"row {number} has no image")
        if not case.patient_id:
            problems.append(f"row {number} has no patient_id")
        if labels and case.label is None and not case.annotators:
            problems.append(f"row {number} has no label")
    _raise(problems, "fill in these cells", table)
    _raise(_twice((case.id, n) for n, case in enumerate(cases, 1)), "give every row its own case_id", table)
    paths = (("|".join(str(p) for _, p in case.images), n) for n, case in enumerate(cases, 1) if case.images)
    _raise(_twice(paths, "have the same image"), "keep one row per image", table)


def _twice(pairs: Iterable[tuple[str, int]], what: str = "have the same case_id") -> list[str]:
    rows: dict[str, list[int]] = defaultdict(list)
    for value, number in pairs:
        rows[value].append(number)
    return [f"rows {', '.join(map(str, own))} {what}" for own in rows.values() if len(own) > 1]


def _check_files(dataset: Dataset) -> None:
    problems = [f"{case.id}: {path} is missing" for case in dataset.cases for path in case.files if not path.exists()]
    _raise(problems, "correct these paths (they are relative to the table)", dataset.path)


def _check_leakage(dataset: Dataset) -> None:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for case in dataset.cases:
        places[case.patient_id].setdefault(case.split, case.id)
    problems = [
        "one patient is in several splits: " + ", ".join(f"{case} in {split or 'none'}" for split, case in own.items())
        for own in places.values()
        if len(own) > 1
    ]
    _raise(problems, "put all cases of a patient into one split", dataset.path)


def _with_split(cases: Sequence[Case], path: Path) -> list[Case]:
    try:
        table = json.loads(path.read_bytes().decode("utf-8"))
        lists = {str(name): ids for name, ids in table.items() if isinstance(ids, list)}
        split_of = {str(case): name for name, ids in lists.items() for case in ids}
        total = sum(len(ids) for ids in lists.values())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        raise InputError("it is not a split file", 'write {"train": [case ids], "test": [case ids]}', path) from None
    if len(split_of) != total:
        raise InputError("a case is in two splits, or twice in one", "name every case once", path)
    unknown = sorted(set(split_of) - {case.id for case in cases})
    _raise([f"no case is called {name!r}" for name in unknown], "use the ids of the table (column case_id)", path)
    return [replace(case, split=split_of[case.id]) for case in cases if case.id in split_of]


def _raise(problems: Sequence[str], remedy: str, path: Path) -> None:
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError("; ".join(problems[:_SHOWN]) + more, remedy, path)
