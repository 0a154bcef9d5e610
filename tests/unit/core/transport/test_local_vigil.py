"""Who waits on a local socket looks before sleeping only where that is worth it."""

import itertools
import select
import socket
import threading

import pytest

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


class Ends:
    """A connection, and who waits at one end of it.

    Attributes:
        vigil: waits.
    """

    def __init__(self, here, there, clock, may_look=True):
        self._here, self._there = here, there
        self._clock = clock
        self._poll = select.poll()
        self._poll.register(here, select.POLLIN)
        self.vigil = Vigil(may_look=may_look, now=clock)

    def wait(self):
        """Waits for a byte that is there; answers whether looking found it."""
        self._there.send(b"x")
        found = self.vigil.look(self._poll)
        ready = found or self.vigil.sleep(self._poll)
        assert ready == [(self._here.fileno(), select.POLLIN)]
        self._here.recv(1)
        return bool(found)

    def wait_in_vain(self):
        """Looks for what does not come, then sleeps for it; answers how often it looked."""
        self._clock.looks = 0
        assert self.vigil.look(self._poll) == []
        looks = self._clock.looks
        self._there.send(b"x")
        self.vigil.sleep(self._poll)
        self._here.recv(1)
        return looks

    def sleeps_for(self, seconds):
        """Sleeps so long."""
        self._clock.step_s, before = seconds, self._clock.step_s
        self._there.send(b"x")
        self.vigil.sleep(self._poll)
        self._here.recv(1)
        self._clock.step_s = before


@pytest.fixture
def pair():
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ends(pair, clock):
    return Ends(*pair, clock)


def test_a_vigil_sleeps_first_and_looks_after_a_short_sleep(ends):
    assert not ends.wait()
    assert ends.wait()
    assert ends.wait()


def test_looking_lasts_for_a_moment(ends):
    ends.wait()
    assert 10 <= ends.wait_in_vain() <= 12


def test_looking_once_in_vain_does_not_end_it(ends):
    ends.wait()
    for _ in range(5):
        assert ends.wait()
        assert ends.wait_in_vain() >= 10
        assert ends.wait()


def test_who_looks_in_vain_looks_ever_more_seldom(ends):
    ends.wait()
    looked = [number for number in range(2000) if ends.wait_in_vain()]
    pauses = [after - before for before, after in itertools.pairwise(looked)]
    assert pauses[:6] == [1, 2, 3, 5, 9, 17]
    assert set(pauses[-5:]) == {65}


def test_what_is_found_makes_one_look_again(ends):
    ends.wait()
    for _ in range(200):
        ends.wait_in_vain()
    while not ends.wait():
        pass
    assert ends.wait_in_vain() >= 10
    assert ends.wait()


def test_nobody_looks_after_a_sleep_that_was_long(ends):
    ends.wait()
    ends.sleeps_for(2 * SHORT_S)
    assert ends.wait_in_vain() == 0


def test_one_thread_of_a_process_looks_at_a_time(ends):
    ends.wait()
    with local_vigil._looking:
        assert not ends.wait()
    assert ends.wait()


def test_nobody_looks_where_there_is_one_processor(pair, clock):
    ends = Ends(*pair, clock, may_look=False)
    ends.wait()
    assert not ends.wait()


def test_a_sleep_ends_when_it_is_time(ends):
    assert ends.vigil.sleep(ends._poll, 1) == []


def test_a_socket_that_is_shut_ends_a_sleep(pair):
    here, there = pair
    poll = select.poll()
    poll.register(here, select.POLLIN)
    thread = threading.Thread(target=Vigil().sleep, args=(poll,))
    thread.start()
    there.shutdown(socket.SHUT_RDWR)
    thread.join(30)
    assert not thread.is_alive()
