"""Jobs: one worker each, behind a fence, from whom they are taken back when he dies; and study versions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, update

from hounsfield.department import jobs, studies
from hounsfield.department.database import Database, open_database
from hounsfield.department.instances import NewInstance, register
from hounsfield.department.jobs import Finished, NewJob, NewResult, Reclaimer
from hounsfield.department.leases import Held, Observer, is_gone, this_process
from hounsfield.department.studies import QuietWatch
from hounsfield.department.tables import deliveries, results
from hounsfield.department.tables import jobs as table
from hounsfield.department.tables import studies as studies_table
from hounsfield.errors import SettingsError

DONE = Finished("done", "", "{}", (NewResult("seg", "1/seg.dcm", "0" * 64, 1, "1.2", "1.2.9", "1.2"),), ("pacs",))


def arrive(database: Database, uid: str, study: str = "1.2.3", digest: str = "") -> list[str]:
    one = NewInstance(uid, digest or uid, 1, "1.2", study, "1.2.4", "CT", "1.2", "A", "h")
    with database.write() as connection:
        return list(register(connection, [one]))


def make(database: Database, *numbers: int, priority: float = 1.0) -> None:
    arrive(database, "1.2.1")
    with database.write() as connection:
        jobs.make(connection, [NewJob("1.2.3", 1, f"r{number}", "{}", priority) for number in numbers])


def state(database: Database, job_id: int = 1) -> str:
    with database.read() as connection:
        return str(connection.execute(select(table.c.state).where(table.c.id == job_id)).scalar())


def test_a_job_of_a_route_and_version_is_made_once(database: Database) -> None:
    for _ in range(3):
        make(database, 1, 2)
    with database.read() as connection:
        assert len(jobs.listed(connection)) == 2


def test_each_job_goes_to_one_of_many_workers(database: Database) -> None:
    make(database, *range(12))
    claimed: list[int] = []

    def work(name: str) -> None:
        while (job := jobs.claim(database, name)) is not None:
            claimed.append(job.id)
            assert jobs.finish(database, job, Finished("refused", "no", "{}"))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 13))


def test_the_highest_priority_comes_first_then_the_oldest(database: Database) -> None:
    make(database, 1, 2)
    make(database, 3, priority=9.0)
    assert [job.route for job in iter(lambda: jobs.claim(database, "w"), None)] == ["r3", "r1", "r2"]


def test_a_slow_worker_finds_his_fence_passed_and_changes_nothing(database: Database) -> None:
    make(database, 1)
    slow = jobs.claim(database, "gone/machine/1/1")
    assert slow is not None
    reclaimer = Reclaimer(database, Observer(lease_s=-1.0))
    reclaimer.reclaim()
    assert reclaimer.reclaim() == 1 or state(database) == "waiting"
    quick = jobs.claim(database, "other")
    assert quick is not None
    assert quick.fence > slow.fence
    assert not jobs.beat(database, slow)
    assert not jobs.finish(database, slow, DONE)
    assert not jobs.fail(database, slow, "late", again=True)
    assert jobs.finish(database, quick, DONE)
    with database.read() as connection:
        assert len(connection.execute(select(results)).all()) == 1
        assert len(connection.execute(select(deliveries)).all()) == 1


def test_a_beating_lease_is_left_alone_and_a_silent_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("hounsfield.department.leases.time.monotonic", lambda: now[0])
    observer, far = Observer(lease_s=30.0), "elsewhere/boot/ns/1/1"
    for second in range(0, 120, 10):
        now[0] = float(second)
        assert observer.stale([Held(1, far, 1, beats=second), Held(2, far, 1, beats=7)]) == (
            [Held(2, far, 1, 7)] if second > 30 else []
        )


def test_a_process_of_this_machine_that_ended_is_known_to_be_gone() -> None:
    code = "from hounsfield.department.leases import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_gone(ended)
    assert not is_gone(this_process())
    reused = "/".join([*ended.split("/")[:-2], str(os.getpid()), "1"])
    assert is_gone(reused)  # the number is in use again, by another process
    assert not is_gone("another-machine/x/y/1/1")


def test_attempts_end_in_the_dead_letter_and_a_person_brings_them_back(database: Database) -> None:
    make(database, 1)
    for attempt in range(1, jobs.MOST_ATTEMPTS + 1):
        job = jobs.claim(database, "w")
        assert job is not None
        assert job.attempt == attempt
        assert jobs.fail(database, job, "it broke", again=True)
    assert state(database) == "dead"
    assert jobs.claim(database, "w") is None
    with database.write() as connection:
        assert jobs.retry(connection, 1)
        assert not jobs.retry(connection, 1)
    job = jobs.claim(database, "w")
    assert job is not None
    assert job.attempt == 1
    assert jobs.fail(database, job, "it can never work", again=False)
    assert state(database) == "dead"


def test_workers_that_die_again_and_again_end_the_job(database: Database) -> None:
    make(database, 1)
    for _ in range(jobs.MOST_ATTEMPTS):
        assert jobs.claim(database, "gone/machine/1/1") is not None
        reclaimer = Reclaimer(database, Observer(lease_s=-1.0))
        reclaimer.reclaim()
        reclaimer.reclaim()
    assert state(database) == "dead"


def test_cancelling_takes_the_job_from_its_worker(database: Database) -> None:
    make(database, 1)
    job = jobs.claim(database, "w")
    assert job is not None
    assert jobs.beat(database, job)
    with database.write() as connection:
        assert jobs.cancel(connection, job.id)
    assert not jobs.beat(database, job)
    assert not jobs.finish(database, job, DONE)
    assert state(database) == "cancelled"


def test_results_and_their_deliveries_are_one_with_the_end_of_the_job(database: Database) -> None:
    make(database, 1)
    job = jobs.claim(database, "w")
    assert job is not None
    twice = Finished("done", "", "{}", (*DONE.results, NewResult("sr", "x", "0", 1, "1.2", None, "1")), ("pacs",))  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)not.null"):
        jobs.finish(database, job, twice)
    assert state(database) == "leased"
    with database.read() as connection:
        assert connection.execute(select(results)).all() == connection.execute(select(deliveries)).all() == []


def test_a_study_is_complete_when_quiet_and_a_late_image_makes_a_new_version(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("hounsfield.department.studies.time.monotonic", lambda: now[0])
    watch = QuietWatch(database, quiet_s=60.0)
    arrive(database, "1.2.1")
    for second, more in ((0, ""), (50, "1.2.2"), (100, ""), (109, "")):
        now[0] = float(second)
        if more:
            arrive(database, more)
        assert watch.complete() == []
    now[0] = 111.0
    (study,) = watch.complete()
    assert study.revision == 2
    arrive(database, "1.2.5")  # between the look and the closing
    with database.write() as connection:
        assert studies.close(connection, study, "routed", "") is None
    now[0] = 400.0
    assert watch.complete() == []
    now[0] = 461.0
    (study,) = watch.complete()
    with database.write() as connection:
        assert studies.close(connection, study, "routed", "") == 1
        jobs.make(connection, [NewJob("1.2.3", 1, "r", "{}", 1.0)])
    assert watch.complete() == []
    arrive(database, "1.2.6")
    now[0] = 600.0
    watch.complete()
    now[0] = 661.0
    (study,) = watch.complete()
    with database.write() as connection:
        assert studies.close(connection, study, "routed", "") == 2
        jobs.supersede(connection, "1.2.3", 2)
    assert state(database) == "superseded"


def test_a_duplicate_or_a_conflict_does_not_open_a_study_again(database: Database) -> None:
    arrive(database, "1.2.1")
    with database.write() as connection:
        connection.execute(update(studies_table).values(state="complete"))
    assert arrive(database, "1.2.1") == ["duplicate"]
    assert arrive(database, "1.2.1", digest="other") == ["conflict"]
    with database.read() as connection:
        (row,) = studies.listed(connection)
        assert (row.state, row.revision, row.conflicts) == ("complete", 1, 1)


def test_a_study_with_its_expected_count_need_not_be_quiet(database: Database) -> None:
    watch = QuietWatch(database, quiet_s=3600.0)
    arrive(database, "1.2.1")
    with database.write() as connection:
        assert studies.expect(connection, "1.2.3", 2)
    assert watch.complete() == []
    arrive(database, "1.2.2")
    assert [one.study_uid for one in watch.complete()] == ["1.2.3"]


def test_a_result_of_a_version_that_was_overtaken_is_kept_but_not_sent(database: Database) -> None:
    make(database, 1)
    job = jobs.claim(database, "w")
    assert job is not None
    with database.write() as connection:
        connection.execute(update(studies_table).values(version=2))
    assert jobs.finish(database, job, DONE)
    with database.read() as connection:
        assert [row.superseded for row in connection.execute(select(results))] == [True]
        assert connection.execute(select(deliveries)).all() == []


def test_the_database_is_in_the_mode_that_survives_a_power_cut(tmp_path: Path) -> None:
    database = open_database(tmp_path / "state.sqlite")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert database.integrity() == "ok"
    database.close()


def test_tables_of_a_newer_hounsfield_are_left_alone(tmp_path: Path) -> None:
    database = open_database(tmp_path / "state.sqlite")
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE about SET schema = 99")
    database.close()
    with pytest.raises(SettingsError, match="schema 99"):
        open_database(tmp_path / "state.sqlite")
