"""What a confined child may do, and what becomes of it when it does more."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import numpy as np

from hounsfield.reading import jail
from hounsfield.reading.jail import Failure
from hounsfield.reading.limits import Limits

SMALL = Limits(headroom_bytes=256 << 20, cpu_s=20, wall_s=30.0)


def test_answers_come_in_order_from_several_children() -> None:
    answers = jail.run_each(lambda n: {"n": n, "pid": os.getpid()}, 20, SMALL, workers=3)
    assert [answer["n"] for answer in answers] == list(range(20))
    assert len({answer["pid"] for answer in answers}) == 3
    assert os.getpid() not in {answer["pid"] for answer in answers}


def test_a_crash_a_hang_and_a_bomb_cost_only_their_own_item() -> None:
    def work(number: int) -> int:
        if number == 2:
            ctypes.string_at(0)
        if number == 4:
            time.sleep(60)
        if number == 6:
            np.ones(1 << 27).sum()
        if number == 8:
            raise jail.Refused("no thanks", "header")
        if number == 9:
            raise KeyError("Doe^Jane")
        return number

    answers: list[Any] = jail.run_each(work, 12, SMALL, workers=2, stall_s=1.5)
    assert [answer for answer in answers if not isinstance(answer, Failure)] == [0, 1, 3, 5, 7, 10, 11]
    assert answers[2].kind == "crash"
    assert "SIGSEGV" in answers[2].reason
    assert answers[4] == Failure("limit", "reading it takes more time than allowed", "limit")
    assert answers[6] == Failure("limit", "reading it takes more memory than allowed", "limit")
    assert answers[8] == Failure("refused", "no thanks", "header")
    assert "KeyError" in answers[9].reason
    assert "Doe" not in answers[9].reason


def test_a_child_that_spins_is_stopped_by_its_processor_limit() -> None:
    def spin() -> None:
        while True:
            pass

    answer = jail.run_one(spin, Limits(cpu_s=1, wall_s=30.0))
    assert answer == Failure("limit", "reading it takes more time than allowed", "limit")


def test_voxels_come_through_shared_memory() -> None:
    array = jail.shared_array((3, 4), np.int16)

    def fill() -> str:
        array[...] = np.arange(12).reshape(3, 4)
        return "done"

    assert jail.run_one(fill, SMALL) == "done"
    np.testing.assert_array_equal(array, np.arange(12).reshape(3, 4))


def test_no_child_is_left_behind() -> None:
    jail.run_each(lambda n: n, 5, SMALL, workers=2)
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    assert pid == 0
