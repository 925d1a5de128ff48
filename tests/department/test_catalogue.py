"""Searching the catalogue means the same on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from hounsfield.department import catalogue
from hounsfield.department.catalogue import Level, Wanted
from hounsfield.department.commitments import ask, due, judged
from hounsfield.department.database import Database
from hounsfield.department.instances import NewInstance, register


def row(study: int, series: int, number: int, **more: str) -> dict[str, Any]:
    known = {"study_uid": f"1.{study}", "series_uid": f"1.{study}.{series}", "modality": "CT" if series else "MR"}
    uid = f"1.{study}.{series}.{number}"
    fixed = {"sop_instance_uid": uid, "sop_class_uid": "1.2", "place": uid, "transfer_syntax_uid": "1.2", "whole": True}
    named = {"patient_name": f"Müller^Person{study}", "patient_id": f"A_{study}%", "study_date": f"2020010{study}"}
    return {**known, **fixed, **named, "attributes_json": "{}", "result_id": None, **more}


@pytest.mark.parametrize(
    ("level", "keys", "count"),
    [
        ("study", {}, 3),
        ("series", {}, 6),
        ("instance", {}, 12),
        ("study", {"PatientName": "müller*"}, 3),
        ("study", {"PatientName": "M?ller^person1"}, 1),
        ("study", {"PatientID": "A_1%"}, 1),
        ("study", {"PatientID": "A_*%"}, 3),
        ("study", {"PatientID": "*_1?"}, 1),
        ("study", {"PatientID": "AX1%"}, 0),
        ("study", {"StudyDate": "20200102-"}, 2),
        ("study", {"StudyDate": "-20200102"}, 2),
        ("study", {"StudyDate": "20200102-20200102"}, 1),
        ("study", {"StudyInstanceUID": "1.1\\1.3"}, 2),
        ("study", {"ModalitiesInStudy": "CT"}, 3),
        ("series", {"Modality": "CT"}, 3),
        ("series", {"ModalitiesInStudy": "CT"}, 6),
        ("instance", {"SOPInstanceUID": "1.1.0.1,1.2.0.1"}, 2),
        ("study", {"PatientName": "'; DROP TABLE catalogue; --"}, 0),
    ],
)
def test_matching(database: Database, level: Level, keys: dict[str, str], count: int) -> None:
    rows = [row(study, series, number) for study in (1, 2, 3) for series in (0, 1) for number in (1, 2)]
    with database.write(alone=True) as connection:
        catalogue.add(connection, rows)
        catalogue.add(connection, rows)  # those that are there are passed over
    with database.read() as connection:
        found = catalogue.search(connection, Wanted(level, keys))
        assert len(found) == count
        if level == "study" and found:
            assert (found[0].series, found[0].instances, found[0].modalities) == (2, 4, ("CT", "MR"))
        assert len(catalogue.search(connection, Wanted(level, keys, 2, 1))) == max(0, min(2, count - 1))


def test_commitment_is_judged_by_what_is_kept(database: Database) -> None:
    with database.write(alone=True) as connection:
        register(connection, [NewInstance("1.2.1", "a" * 64, 1, "1.2", "1.2.3", "1.2.4", "CT", "1.2", "A", "h")])
        ask(connection, "5.1", "PACS", [("1.2", "1.2.1"), ("1.3", "1.2.1"), ("1.2", "9.9")])
        ask(connection, "5.1", "PACS", [("1.2", "1.2.1")])
    with database.read() as connection:
        (waiting,) = due(connection)
        assert [reason for _, reason, _ in judged(connection, waiting.references)] == [0, 0x0119, 0x0112]
