"""What is kept for another use, and for how long."""

from collections.abc import Callable

import pytest

from paramserve_core.transport import idle_memory
from paramserve_core.transport.idle_memory import LINGER_S, IdleMemory


class Clock:
    """Time that passes when it is told to; what is to be called later is called then."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        self.calls.append((self.now_s + delay_s, function))

    def passes(self, seconds: float) -> None:
        self.now_s += seconds
        due = [call for call in self.calls if call[0] <= self.now_s]
        self.calls = [call for call in self.calls if call[0] > self.now_s]
        for _, function in due:
            function()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(idle_memory.timers, "call_later", clock.call_later)
    monkeypatch.setattr(idle_memory.time, "monotonic", clock.monotonic)
    return clock


def test_what_fits_is_kept_for_ever(clock):
    idle = IdleMemory(len, max_bytes=10)
    idle.give_back(b"123456789")
    assert clock.calls == []
    assert idle.take(9) == b"123456789"


def test_the_oldest_are_let_go_when_there_is_too_much(clock):
    idle = IdleMemory(len, max_bytes=10)
    for piece in (b"1111", b"22222", b"333333"):
        idle.give_back(piece)
    assert idle.nbytes == 6
    assert idle.take(6) == b"333333"
    assert clock.calls == []


def test_a_piece_that_is_too_large_to_be_kept_can_be_taken_again_at_once(clock):
    idle = IdleMemory(len, max_bytes=10)
    for _ in range(20):
        idle.give_back(b"x" * 1000)
        clock.passes(LINGER_S / 2)
        assert idle.take(1000) is not None
    clock.passes(LINGER_S)
    assert clock.calls == []


def test_a_piece_that_is_too_large_to_be_kept_goes_when_nobody_takes_it(clock):
    idle = IdleMemory(len, max_bytes=10)
    idle.give_back(b"x" * 1000)
    clock.passes(LINGER_S / 2)
    idle.give_back(b"y" * 2000)
    assert idle.nbytes == 2000
    clock.passes(LINGER_S / 2)
    assert idle.nbytes == 2000
    clock.passes(LINGER_S / 2)
    assert idle.nbytes == 0
    assert clock.calls == []


def test_nothing_else_goes_with_a_piece_that_lingered(clock):
    idle = IdleMemory(len, max_bytes=10)
    idle.give_back(b"x" * 1000)
    assert idle.take(1000) is not None
    idle.give_back(b"12345")
    clock.passes(LINGER_S)
    assert idle.nbytes == 5
