"""The catalogue: what queries (QIDO-RS, C-FIND) may ask of the instances that are here.

One row per instance, read from its header after it was kept, so that receiving waits for nothing;
a row that is missing is made before the next query is answered. It names persons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    Select,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
)

from hounsfield.department.tables import instances, jobs, metadata, results

Level = Literal["study", "series", "instance"]
LEVELS: Final[tuple[Level, ...]] = ("study", "series", "instance")

#: Keys that a query may match on, by level (PS3.4 tables C.6-1 to C.6-3, PS3.18 table 10.6.1-5),
#: and the column that holds them.
KEYS: Final[Mapping[Level, Mapping[str, str]]] = {
    "study": {
        "PatientName": "patient_name",
        "PatientID": "patient_id",
        "PatientBirthDate": "patient_birth_date",
        "PatientSex": "patient_sex",
        "StudyInstanceUID": "study_uid",
        "StudyDate": "study_date",
        "StudyTime": "study_time",
        "AccessionNumber": "accession_number",
        "StudyID": "study_id",
        "StudyDescription": "study_description",
        "ReferringPhysicianName": "referring_physician",
        "ModalitiesInStudy": "modality",
    },
    "series": {
        "Modality": "modality",
        "SeriesInstanceUID": "series_uid",
        "SeriesNumber": "series_number",
        "SeriesDescription": "series_description",
        "SeriesDate": "series_date",
        "BodyPartExamined": "body_part",
    },
    "instance": {
        "SOPInstanceUID": "sop_instance_uid",
        "SOPClassUID": "sop_class_uid",
        "InstanceNumber": "instance_number",
    },
}
_COLUMNS: Final = tuple(dict.fromkeys(column for keys in KEYS.values() for column in keys.values()))
_DATES: Final = frozenset(("patient_birth_date", "study_date", "study_time", "series_date"))
_KEY: Final = BigInteger().with_variant(Integer(), "sqlite")

catalogue = Table(
    "catalogue",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("place", Text, nullable=False, unique=True),  # the file, below the node's folder
    Column("result_id", _KEY),  # of an instance that a job wrote
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("whole", Boolean, nullable=False),  # False: the header could not be read again
    Column("attributes_json", Text, nullable=False),
    *(Column(name, Text, nullable=False) for name in _COLUMNS),
    Index("catalogue_by_study", "study_uid", "series_uid"),
    Index("catalogue_by_instance", "sop_instance_uid"),
    Index("catalogue_by_patient", "patient_id"),
)


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue: an instance, its file, and the attributes that answers show."""

    id: int
    place: str
    transfer_syntax_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """A query.

    Parameters
    ----------
    keys
        Attribute keyword to the text to match: a value, a pattern with ``*`` and ``?``, a range
        of dates ``A-B``, or several UIDs between backslashes; empty matches all (PS3.4 C.2.2.2).
    most, skip
        How many answers at most, and how many to pass over before.
    """

    level: Level
    keys: Mapping[str, str]
    most: int = 1000
    skip: int = 0


@dataclass(frozen=True)
class Match:
    """One answer: an instance of the study or series, and what is known of all of it."""

    entry: Entry
    modalities: tuple[str, ...] = ()
    series: int = 0
    instances: int = 0


@dataclass(frozen=True)
class Missing:
    """An instance that has no row yet."""

    place: str
    result_id: int | None
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_uid: str
    series_uid: str
    modality: str


def missing(connection: Connection, most: int) -> list[Missing]:
    """Kept instances, and results that count, of which the catalogue does not know yet."""
    place = literal("instances/") + func.substr(instances.c.sha256, 1, 2) + "/" + instances.c.sha256 + ".dcm"
    there = select(catalogue.c.id).where(catalogue.c.place == place).exists()
    kept = select(
        place,
        instances.c.sop_instance_uid,
        instances.c.sop_class_uid,
        instances.c.transfer_syntax_uid,
        instances.c.study_uid,
        instances.c.series_uid,
        instances.c.modality,
    )
    kept = kept.where(instances.c.standing == "kept", ~there).order_by(instances.c.id).limit(most)
    found = [Missing(row[0], None, *row[1:]) for row in connection.execute(kept)]
    return found + _missing_results(connection, most)


def _missing_results(connection: Connection, most: int) -> list[Missing]:
    place = literal("results/") + results.c.path
    there = select(catalogue.c.id).where(catalogue.c.place == place).exists()
    wrote = (
        select(
            place,
            results.c.id,
            results.c.sop_instance_uid,
            results.c.sop_class_uid,
            results.c.transfer_syntax_uid,
        )
        .join(jobs, jobs.c.id == results.c.job_id)
        .where(results.c.sop_instance_uid != "", results.c.superseded.is_(False), jobs.c.shadow.is_(False), ~there)
        .order_by(results.c.id)
        .limit(most)
    )
    found = connection.execute(wrote)
    return [Missing(one[0], one[1], one[2], one[3], one[4], "", "", "") for one in found]


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows; those whose file has one already are passed over. Only in an ``alone`` transaction."""
    places = [row["place"] for row in rows]
    there = set(connection.execute(select(catalogue.c.place).where(catalogue.c.place.in_(places))).scalars())
    fresh = {row["place"]: {**dict.fromkeys(_COLUMNS, ""), **row} for row in rows if row["place"] not in there}
    if fresh:
        connection.execute(insert(catalogue), list(fresh.values()))


def superseded(connection: Connection) -> list[int]:
    """Rows of results that a later version of their study has replaced."""
    query = select(catalogue.c.id).join(results, results.c.id == catalogue.c.result_id)
    return list(connection.execute(query.where(results.c.superseded.is_(True)).limit(10_000)).scalars())


def forget(connection: Connection, rows: Sequence[int]) -> None:
    """Show these rows no more."""
    for start in range(0, len(rows), 500):
        connection.execute(delete(catalogue).where(catalogue.c.id.in_(rows[start : start + 500])))


def search(connection: Connection, wanted: Wanted) -> list[Match]:
    """The studies, series or instances that match, the first that came first."""
    group = {"study": catalogue.c.study_uid, "series": catalogue.c.series_uid, "instance": catalogue.c.id}[wanted.level]
    first = select(func.min(catalogue.c.id).label("id")).where(*_conditions(wanted)).group_by(group)
    chosen = first.order_by("id").limit(wanted.most).offset(wanted.skip).subquery()
    query = _rows().join(chosen, chosen.c.id == catalogue.c.id).order_by(catalogue.c.id)
    return [_counted(connection, wanted.level, _entry(row)) for row in connection.execute(query)]


def entries(connection: Connection, study_uid: str, series_uid: str = "", sop_instance_uid: str = "") -> list[Entry]:
    """Every instance of a study, of a series, or one; in the order they came."""
    query = _rows().where(catalogue.c.study_uid == study_uid).order_by(catalogue.c.id)
    if series_uid:
        query = query.where(catalogue.c.series_uid == series_uid)
    if sop_instance_uid:
        query = query.where(catalogue.c.sop_instance_uid == sop_instance_uid)
    return [_entry(row) for row in connection.execute(query)]


def _rows() -> Select[Any]:
    wanted = ("id", "place", "transfer_syntax_uid", "sop_class_uid", "study_uid", "series_uid", "sop_instance_uid")
    return select(*(catalogue.c[name] for name in wanted), catalogue.c.attributes_json)


def _entry(row: Any) -> Entry:
    return Entry(row[0], row[1], row[2], row[3], row[4], row[5], row[6], json.loads(row[7]))


def _counted(connection: Connection, level: Level, entry: Entry) -> Match:
    if level == "instance":
        return Match(entry)
    inside = catalogue.c.study_uid == entry.study_uid
    if level == "series":
        inside = catalogue.c.series_uid == entry.series_uid
    counts = select(func.count(), func.count(catalogue.c.series_uid.distinct())).where(inside)
    number, series = connection.execute(counts).one()
    kinds = connection.execute(select(catalogue.c.modality).where(inside).distinct()).scalars()
    return Match(entry, tuple(sorted(kind for kind in kinds if kind)), series, number)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found = []
    for level in LEVELS[: LEVELS.index(wanted.level) + 1]:
        for keyword, column in KEYS[level].items():
            text = wanted.keys.get(keyword, "").strip()
            if not text or not text.strip("*"):
                continue
            match = _matches(catalogue.c[column], column, text)
            if keyword == "ModalitiesInStudy":
                match = catalogue.c.study_uid.in_(select(catalogue.c.study_uid).where(match))
            found.append(match)
    return found


def _matches(column: ColumnElement[str], name: str, text: str) -> ColumnElement[bool]:
    """Single value, list, range or wildcard matching; texts match in any case."""
    if name in _DATES and "-" in text:
        low, _, high = text.partition("-")
        bounds = [column != ""]
        bounds += [column >= low] if low else []
        bounds += [column <= high + "~"] if high else []
        return and_(*bounds)
    several = [part for part in re.split(r"[\\,]", text) if part] if name.endswith("_uid") or "\\" in text else [text]
    return or_(*(_like(column, part) for part in several))


def _like(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    if "*" not in text and "?" not in text:
        return func.lower(column) == text.lower()
    escaped = re.sub(r"([%_!])", r"!\1", text.lower())
    return func.lower(column).like(escaped.replace("*", "%").replace("?", "_"), escape="!")
