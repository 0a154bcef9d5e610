"""Who waits on a local socket looks before sleeping only where that is worth it."""

import socket
import threading

import pytest

from local_fakes import until
from paramserve_core.transport import local_vigil
from paramserve_core.transport.local_vigil import LOOK_S, SHORT_S, Vigil


class Clock:
    """Time that passes by a step whenever one looks at it.

    Attributes:
        looks: how often one did.
    """

    def __init__(self):
        self.now_s = 0.0
        self.step_s = LOOK_S / 10
        self.looks = 0

    def __call__(self):
        self.looks += 1
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture
def clock():
    return Clock()


def wait(vigil, ends):
    """Waits for a byte that is there."""
    here, there = ends
    there.send(b"x")
    vigil.wait()
    here.recv(1)


def looks_in(vigil, ends, clock, at_least=1):
    """How often a vigil looks at the time where nothing comes before it has done so for a while."""
    here, there = ends
    clock.looks = 0
    thread = threading.Thread(target=vigil.wait)
    thread.start()
    until(lambda: clock.looks >= at_least and not local_vigil._looking.locked())
    there.send(b"x")
    thread.join()
    here.recv(1)
    return clock.looks


def test_a_vigil_sleeps_first_and_looks_after_a_short_sleep(ends, clock):
    vigil = Vigil(ends[0].fileno(), may_look=True, now=clock)
    assert looks_in(vigil, ends, clock) == 2  # When it began, and when it had slept.
    wait(vigil, ends)
    assert looks_in(vigil, ends, clock, at_least=10) > 10


def test_a_vigil_that_looked_in_vain_sleeps_next_time(ends, clock):
    vigil = Vigil(ends[0].fileno(), may_look=True, now=clock)
    wait(vigil, ends)
    assert looks_in(vigil, ends, clock, at_least=10) > 10
    assert looks_in(vigil, ends, clock) == 2
    assert looks_in(vigil, ends, clock, at_least=10) > 10


def test_nobody_looks_after_a_sleep_that_was_long(ends, clock):
    vigil = Vigil(ends[0].fileno(), may_look=True, now=clock)
    clock.step_s = 2 * SHORT_S
    wait(vigil, ends)
    assert looks_in(vigil, ends, clock) == 2


def test_looking_finds_what_comes_meanwhile(ends, clock):
    vigil = Vigil(ends[0].fileno(), may_look=True, now=clock)
    wait(vigil, ends)
    clock.looks = 0
    wait(vigil, ends)
    assert clock.looks == 2  # When it began, and when it looked.


def test_one_thread_of_a_process_looks_at_a_time(ends, clock):
    vigil = Vigil(ends[0].fileno(), may_look=True, now=clock)
    wait(vigil, ends)
    with local_vigil._looking:
        wait(vigil, ends)
        clock.looks = 0
        wait(vigil, ends)
    assert clock.looks == 2
    assert looks_in(vigil, ends, clock, at_least=10) > 10


def test_nobody_looks_where_there_is_one_processor(ends, clock):
    vigil = Vigil(ends[0].fileno(), may_look=False, now=clock)
    wait(vigil, ends)
    assert looks_in(vigil, ends, clock) == 2


def test_a_socket_that_is_shut_ends_a_wait(ends):
    here, there = ends
    vigil = Vigil(here.fileno())
    thread = threading.Thread(target=vigil.wait)
    thread.start()
    there.shutdown(socket.SHUT_RDWR)
    thread.join(30)
    assert not thread.is_alive()
