"""The catalogue: conflicts and superseded results are not shown; a header that cannot be told hides nothing else."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import update

from faults.instances import encoded, instance
from hounsfield.department import jobs
from hounsfield.department.catalogue import Wanted
from hounsfield.department.jobs import Finished, NewJob, NewResult
from hounsfield.department.tables import results
from hounsfield.usecases.node.cataloguing import catalogue_missing
from hounsfield.usecases.node.opening import open_node
from hounsfield.usecases.node.retrieving import find

from .serving import fill


def test_only_what_counts_is_found(tmp_path: Path) -> None:
    node, files = open_node(tmp_path / "node"), []
    for number, seed in ((0, 0), (1, 0), (0, 1)):  # the last has other pixels under a known UID
        files.append(tmp_path / f"{number}-{seed}.dcm")
        files[-1].write_bytes(encoded(instance(1, number, seed=seed)))
    assert fill(node, files) == 3
    assert [one.instances for one in find(node, Wanted("study", {}))] == [2]
    answer = instance(1, 5)
    answer.Modality = "SEG"
    (node.results / "1-1").mkdir()
    (node.results / "1-1" / "seg.dcm").write_bytes(encoded(answer))
    with node.database.write() as connection:
        jobs.make(connection, [NewJob(str(answer.StudyInstanceUID), 1, "r", "{}", 1.0)])
    job = jobs.claim(node.database, "w")
    assert job is not None
    uids = (str(answer.SOPClassUID), str(answer.SOPInstanceUID), "1.2.840.10008.1.2.1")
    written = NewResult("seg", "1-1/seg.dcm", "0" * 64, 1, *uids)
    assert jobs.finish(node.database, job, Finished("done", "", "{}", (written,)))
    (study,) = find(node, Wanted("study", {"ModalitiesInStudy": "SEG"}))
    assert (study.modalities, study.instances) == (("CT", "SEG"), 3)
    with node.database.write() as connection:
        connection.execute(update(results).values(superseded=True))
    assert find(node, Wanted("study", {"ModalitiesInStudy": "SEG"})) == []
    node.close()


def test_an_instance_whose_header_is_gone_is_listed_by_its_uids(tmp_path: Path) -> None:
    node, path = open_node(tmp_path / "node"), tmp_path / "a.dcm"
    path.write_bytes(encoded(instance(1, 0)))
    fill(node, [path])
    (stored,) = (node.root / "instances").rglob("*.dcm")
    stored.write_bytes(b"damaged")
    assert catalogue_missing(node) == 1
    assert catalogue_missing(node) == 0
    (found,) = find(node, Wanted("instance", {"StudyInstanceUID": str(instance(1, 0).StudyInstanceUID)}))
    assert found.entry.sop_instance_uid == str(instance(1, 0).SOPInstanceUID)
    assert found.entry.attributes == {}
    node.close()
