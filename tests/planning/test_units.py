"""Amounts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import SettingsError
from hounsfield.planning import Budget, format_bytes, format_seconds, parse_bytes, parse_seconds
from hounsfield.planning.units import round_up_bytes, round_up_seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GiB", 2 * 2**30), ("800MB", 800_000_000), ("1.5 gib", 3 * 2**29), ("64K", 65536), ("1e3 B", 1000)],
)
def test_memory_is_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("2h", 7200), ("1.5 min", 90), ("250ms", 0.25), ("5m", 300)]
)
def test_time_is_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("2", "add one, such as 2GiB"),
        ("2Gigs", "did you mean 'GiB'|did you mean 'GB'"),
        ("3MBB", "did you mean 'MB'"),
        ("lots", "2GiB"),
        ("", "2GiB"),
        ("-1GiB", "2GiB"),
        ("0GB", "2GiB"),
        ("1e400GB", "2GiB"),
        ("nanGB", "2GiB"),
        ("99999999TiB", "2GiB"),
        ("2GiB; rm", "2GiB"),
    ],
)
def test_nonsense_memory_gets_advice(text: str, advice: str) -> None:
    with pytest.raises(SettingsError, match=advice):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["60", "1 fortnight", "0s", "-2h", "s", "9e99d"])
def test_nonsense_time_gets_advice(text: str) -> None:
    with pytest.raises(SettingsError, match="60s, 5min or 2h"):
        parse_seconds(text)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError):
        Budget(host_bytes=0)
    with pytest.raises(SettingsError):
        Budget(seconds=float("nan"))


@given(st.integers(1, 2**59))
def test_memory_round_trips_to_four_digits(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=5.1e-4, abs=1)


@given(st.floats(1e-3, 1e7))
def test_time_round_trips_to_four_digits(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=5.1e-4)


@given(st.integers(1, 2**50))
def test_a_proposed_amount_typed_back_is_enough(count: int) -> None:
    proposed = round_up_bytes(count)
    assert count <= proposed <= count * 1.02 + 1
    assert parse_bytes(format_bytes(proposed)) >= count


@given(st.floats(1e-3, 1e7))
def test_a_proposed_time_typed_back_is_enough(seconds: float) -> None:
    proposed = round_up_seconds(seconds)
    assert seconds <= proposed <= seconds * 1.002
