"""The Plan can be saved, edited and read back, and refuses nonsense."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import SettingsError
from hounsfield.planning import Budget, Plan, choose
from planning.builders import MACHINE, need, offers


def a_plan(**changes: object) -> Plan:
    plan = choose(need(), Budget(), MACHINE, offers())
    assert isinstance(plan, Plan)
    return Plan.from_dict({**plan.as_dict(), **changes})


def test_both_formats_give_the_same_plan_back() -> None:
    plan = a_plan()
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_toml(plan.to_toml()) == plan


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4), st.floats(0, 1e12))
def test_any_reason_and_number_survives_toml(reasons: dict[str, str], seconds: float) -> None:
    plan = a_plan(reasons=reasons, seconds=seconds)
    assert Plan.from_toml(plan.to_toml()) == plan


def test_an_edit_in_toml_is_taken() -> None:
    edited = a_plan().to_toml().replace("threads = 2", "threads = 1")
    assert Plan.from_toml(edited).threads == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "fp8"),
        ("mode", "magic"),
        ("batch", 0),
        ("batch", 1.5),
        ("batch", True),
        ("threads", "2"),
        ("window", [96, 96]),
        ("window", [96, 96, -1]),
        ("window", [96, 96, 96.5]),
        ("overlap", 1.0),
        ("overlap", float("nan")),
        ("seconds", -1.0),
        ("host_peak_bytes", -5),
        ("mapped", 1),
        ("host_parts", {"scan": 1.5}),
        ("reasons", {"engine": 3}),
        ("device", None),
    ],
)
def test_a_wrong_value_is_named(field: str, value: object) -> None:
    with pytest.raises(SettingsError, match=field):
        a_plan(**{field: value})


def test_missing_and_unknown_fields_are_named() -> None:
    data = a_plan().as_dict()
    del data["threads"]
    data["treads"] = 2
    with pytest.raises(SettingsError, match="threads is missing, treads is unknown"):
        Plan.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 9}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        Plan.from_json(text)


def test_toml_that_does_not_parse_is_refused() -> None:
    with pytest.raises(SettingsError, match="not TOML"):
        Plan.from_toml("engine = ")


def test_it_reads_well() -> None:
    text = str(a_plan())
    assert "openvino, bf16 on cpu, 2 threads" in text
    assert "predicted:" in text
    assert "window 96×96×96" in text
