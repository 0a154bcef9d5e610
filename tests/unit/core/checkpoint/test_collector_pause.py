"""The collector of cycles waits while a checkpoint's objects are made, and goes on afterwards."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from paramserve_core.checkpoint.collector import collector_paused


@pytest.fixture(autouse=True)
def enabled():
    assert gc.isenabled()
    yield
    gc.enable()


def test_collector_waits_until_the_outermost_block_ends():
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_goes_on_after_an_error():
    with pytest.raises(KeyError), collector_paused():
        raise KeyError
    assert gc.isenabled()


def test_collector_that_was_off_stays_off():
    gc.disable()
    with collector_paused():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_blocks_of_two_threads_may_overlap():
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with collector_paused():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with collector_paused():
        thread.start()
        assert entered.wait(10)
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_process_has_its_collector():
    with collector_paused():
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, b"1" if gc.isenabled() else b"0")
            os._exit(0)
        os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)
