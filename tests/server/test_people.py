"""Accounts, log-ins and what they protect; the worklist's pages without a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert

from hounsfield.department import described, workitems
from hounsfield.department.described import STUDY_STATES, Wanted
from hounsfield.department.tables import studies, study_facts
from hounsfield.department.triage import Verdict
from hounsfield.errors import SettingsError
from hounsfield.server.app import make_app
from hounsfield.server.pages.entering import Brake
from hounsfield.usecases.node import people
from hounsfield.usecases.node.describing import plain, shown_name
from hounsfield.usecases.node.opening import Node, open_node
from hounsfield.usecases.node.worklist import in_few_words, worklist

PASSWORD, WRONG = "seven-green-bottles", "wrong-wrong-wrong"
HTML = {"Accept": "text/html"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = open_node(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(node: Node) -> Iterator[TestClient]:
    with TestClient(make_app(node), base_url="http://127.0.0.1", follow_redirects=False) as made:
        yield made


def enter(client: TestClient, name: str = "anna", password: str = PASSWORD, **more: str) -> int:
    said = {"name": name, "password": password, "target": "/", **more}
    return int(client.post("/login", data=said, headers=HTML).status_code)


def csrf(client: TestClient) -> dict[str, str]:
    page = client.get("/", headers=HTML).text
    return {"X-CSRF-Token": page.split('data-csrf="')[1].split('"')[0]}


def test_passwords_are_kept_as_argon2id_and_weak_ones_refused(node: Node) -> None:
    people.add_user(node, "anna", "reviewer", PASSWORD, "tester")
    kept = people.list_users(node)[0]
    assert kept.password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    for weak in ("short", "a" * 40, "anna-anna-1234", "x" * 300):
        with pytest.raises(SettingsError):
            people.change_password(node, "anna", weak, "tester")
    for name, role in (("anna", "viewer"), ("Bob", "viewer"), ("../bob", "viewer"), ("bob", "king")):
        with pytest.raises(SettingsError):
            people.add_user(node, name, role, PASSWORD, "tester")
    said = (node.root / "audit.jsonl").read_text()
    assert "user made" in said
    assert PASSWORD not in said


def test_the_last_admin_stays(node: Node) -> None:
    people.add_user(node, "anna", "admin", PASSWORD, "tester")
    with pytest.raises(SettingsError, match="only admin"):
        people.remove_user(node, "anna", "tester")
    with pytest.raises(SettingsError, match="only admin"):
        people.change_role(node, "anna", "viewer", "tester")
    people.add_user(node, "bob", "admin", PASSWORD, "tester")
    people.remove_user(node, "anna", "tester")
    assert [one.name for one in people.list_users(node)] == ["bob"]


def test_the_first_account_needs_the_code_of_the_folder(node: Node, client: TestClient) -> None:
    assert "Set-up code" in client.get("/login", headers=HTML).text
    path = people.setup_code_path(node)
    assert path.stat().st_mode & 0o777 == 0o600
    assert enter(client, code="0123456789abcdef") == 409
    assert enter(client, code=path.read_text()) == 303
    assert not path.exists()
    assert people.list_users(node)[0].role == "admin"
    assert "Set-up code" not in client.get("/login", headers=HTML).text
    assert enter(client, name="bob", code="0123456789abcdef") == 409


def test_a_log_in_opens_the_page_and_ends(node: Node, client: TestClient) -> None:
    people.add_user(node, "anna", "operator", PASSWORD, "tester")
    answer = client.get("/?state=done", headers=HTML)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?target=%2F%3Fstate%3Ddone"
    assert enter(client, password=WRONG) == 401
    assert enter(client, name="nobody") == 401
    assert enter(client) == 303
    cookie = client.post("/login", data={"name": "anna", "password": PASSWORD}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/", headers=HTML).status_code == 200
    assert client.get("/api/v1/jobs").status_code == 200  # programs' routes know people too
    assert client.post("/logout", headers=csrf(client)).status_code == 204
    assert client.get("/api/v1/jobs").status_code == 401


def test_a_cookie_alone_changes_nothing(node: Node, client: TestClient) -> None:
    people.add_user(node, "anna", "operator", PASSWORD, "tester")
    enter(client)
    for shown in ({}, {"X-CSRF-Token": "x" * 43}, {"X-CSRF-Token": ""}):
        assert client.post("/api/v1/jobs/1/cancel", headers=shown).status_code == 403
    assert client.post("/api/v1/jobs/1/cancel", headers=csrf(client)).status_code == 409  # there is no such job
    other = {"Origin": "http://elsewhere.example", **HTML}
    assert client.post("/login", data={"name": "anna", "password": PASSWORD}, headers=other).status_code == 403
    cross = {"Sec-Fetch-Site": "cross-site", **HTML}
    assert client.post("/login", data={"name": "anna", "password": PASSWORD}, headers=cross).status_code == 403


def test_roles_are_those_of_the_account_now(node: Node, client: TestClient) -> None:
    people.add_user(node, "anna", "reviewer", PASSWORD, "tester")
    enter(client)
    assert client.post("/api/v1/demo", headers=csrf(client)).status_code == 403
    people.change_role(node, "anna", "viewer", "tester")
    assert client.get("/api/v1/jobs").status_code == 401  # every log-in ended


@pytest.mark.parametrize("column", ["seen_at", "began_at"])
def test_old_log_ins_are_over(node: Node, client: TestClient, column: str) -> None:
    from sqlalchemy import update

    from hounsfield.department.tables import web_sessions

    people.add_user(node, "anna", "viewer", PASSWORD, "tester")
    enter(client)
    limit = people.IDLE_SECONDS if column == "seen_at" else people.LONGEST_SECONDS
    for earlier, status in ((limit - 60, 200), (limit + 60, 401)):
        with node.database.write() as connection:
            values = {"seen_at": time.time(), "began_at": time.time(), column: time.time() - earlier}
            connection.execute(update(web_sessions).values(**values))
        assert client.get("/api/v1/jobs").status_code == status


def test_guessing_is_braked(node: Node, client: TestClient) -> None:
    people.add_user(node, "anna", "viewer", PASSWORD, "tester")
    assert [enter(client, password=WRONG) for _ in range(6)] == [401] * 5 + [429]
    assert enter(client) == 429  # the right one has to wait too
    brake = Brake(tries=2, window_s=60.0)
    brake.failed("a")
    assert brake.wait_s("a") == 0
    brake.failed("a")
    assert 50 < brake.wait_s("a") <= 60
    assert brake.wait_s("b") == 0


def test_after_the_log_in_nobody_is_sent_elsewhere(node: Node, client: TestClient) -> None:
    people.add_user(node, "anna", "viewer", PASSWORD, "tester")
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nX: y"):
        answer = client.post("/login", data={"name": "anna", "password": PASSWORD, "target": target}, headers=HTML)
        assert answer.headers["location"] == "/"


def test_names_are_text(node: Node, client: TestClient) -> None:
    people.add_user(node, "anna", "viewer", PASSWORD, "tester")
    enter(client)
    with node.database.write() as connection:
        fill(connection, 1, "<script>alert(1)</script>")
    page = client.get("/", headers=HTML)
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
    assert "style=" not in page.text
    assert " onclick" not in page.text
    assert plain("a\x00b\u202ec\n  d" + "e" * 500)[:9] == "a b c dee"
    assert len(plain("e" * 500)) == 128
    assert shown_name("Curie^Marie^Salomea^^=x") == "Curie, Marie Salomea"
    assert shown_name("") == ""


def fill(connection: object, count: int, name: str) -> None:
    """Rows of studies that never had a file."""
    now = time.time()
    rows = [
        {"study_uid": f"1.2.{n}", "state": "complete", "outcome": "unrouted", "reason": "", "revision": 3}
        | {"version": 1, "conflicts": 0, "calling_ae": "A", "first_at": now, "last_at": now - n}
        for n in range(count)
    ]
    facts = [
        {"study_uid": f"1.2.{n}", "patient_name": f"{name}{n % 977}", "patient_id": f"P{n}", "description": "Chest"}
        | {"study_date": "2026-01-01", "modalities": "CT" if n % 3 else "MR", "revision": 3}
        for n in range(count)
    ]
    connection.execute(insert(studies), rows)  # type: ignore[attr-defined]
    connection.execute(insert(study_facts), facts)  # type: ignore[attr-defined]


def test_pages_filters_and_orders_of_a_long_list(node: Node) -> None:
    with node.database.write() as connection:
        fill(connection, 5000, "Name")
    first = worklist(node, Wanted())
    assert first.total == 5000
    assert [one.study_uid for one in first.lines][:2] == ["1.2.0", "1.2.1"]
    assert worklist(node, Wanted(offset=4990)).lines[-1].study_uid == "1.2.4999"
    assert worklist(node, Wanted(order="oldest")).lines[0].study_uid == "1.2.4999"
    assert worklist(node, Wanted(text="nAME976")).total == 5
    assert worklist(node, Wanted(text="%")).total == 0  # a sign, not a pattern
    assert worklist(node, Wanted(modality="MR")).total == 1667
    totals = {state: worklist(node, Wanted(state=state)).total for state in STUDY_STATES}
    assert totals.pop("not routed") == 5000
    assert set(totals.values()) == {0}
    with node.database.read() as connection:
        assert described.facts_of(connection, "1.2.7") is not None
    with node.database.write() as connection:
        for number, arrived in ((3, 100.0), (9, 50.0), (5, 200.0)):
            workitems.add(connection, f"2.{number}", f"1.2.{number}", "MEDIUM", {}, arrived)
        workitems.record(connection, 7, "1.2.5", "Pneumothorax", Verdict(0.9, True, 180.0))
    urgent = worklist(node, Wanted(order="urgent"))
    assert [one.study_uid for one in urgent.lines][:4] == ["1.2.5", "1.2.9", "1.2.3", "1.2.0"]
    assert urgent.lines[0].flag == "Pneumothorax"
    assert urgent.lines[1].flag == ""


def test_findings_in_few_words() -> None:
    rows = [{"label": "Nodule", "component": n, "diameter_mm": 8.0 + n, "volume_ml": 0.2} for n in range(6)]
    done = {"series": [{"status": "done", "measured": rows}]}
    assert in_few_words(done).startswith("Nodule 8 mm 0.2 ml; Nodule 9 mm")
    assert in_few_words(done).endswith("; 2 more")
    assert in_few_words({"series": [{"status": "done", "measured": []}]}) == "nothing found"
    assert in_few_words({"series": [{"status": "refused", "measured": []}]}) == ""
    assert (
        in_few_words({"series": [{"status": "done", "measured": [{"label": "p", "probability": 0.871}]}]}) == "p 0.87"
    )


def test_accounts_are_made_on_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from hounsfield.cli.app import app

    open_node(tmp_path).close()

    def said(*words: str, typed: str = "") -> tuple[int, str]:
        answer = CliRunner().invoke(app, ["user", *words, "--data", str(tmp_path)], input=typed)
        return answer.exit_code, answer.output

    assert said("add", "anna", "--role", "reviewer", typed=f"{PASSWORD}\n") == (0, "")
    assert said("add", "anna", typed=f"{PASSWORD}\n")[0] != 0
    assert said("password", "anna", typed="another-long-one\n") == (0, "")
    assert said("list")[1].split() == ["anna", "reviewer"]
    assert said("remove", "anna") == (0, "")
    assert said("list") == (0, "")
