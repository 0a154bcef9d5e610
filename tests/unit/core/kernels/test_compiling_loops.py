"""Loops are compiled once, beside the updates, and only where that is wanted and possible."""

import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from paramserve_core.kernels import fused, fused_loops


class HeldCompile:
    """Compiles when it is let; counts how often."""

    def __init__(self):
        self.let = threading.Event()
        self.asked = []

    def __call__(self, loop, dtype):
        self.asked.append((loop, dtype))
        assert self.let.wait(30)
        return loop


F4, F8 = np.dtype("f4"), np.dtype("f8")


def test_a_loop_is_compiled_once_and_not_waited_for():
    held = HeldCompile()
    compiler = fused.Compiler(held)
    for _ in range(3):
        compiler.ask(fused_loops.adam, F4)
        assert compiler.find(fused_loops.adam, F4) is None
    held.let.set()
    compiler.wait()
    compiler.ask(fused_loops.adam, F4)
    compiler.wait()
    assert held.asked == [(fused_loops.adam, F4)]
    assert compiler.find(fused_loops.adam, F4) is fused_loops.adam
    assert compiler.find(fused_loops.adam, F8) is None


def test_what_is_asked_for_later_is_compiled_as_well():
    compiler = fused.Compiler(lambda loop, dtype: loop)
    for loop in fused_loops.ROWS:
        compiler.ask(loop, F4)
        compiler.wait()
        assert compiler.find(loop, F4) is loop


def test_a_loop_that_does_not_compile_is_said_once_and_left_to_numpy(caplog):
    def fail(loop, dtype):
        if loop is fused_loops.adam:
            raise OSError("no space left")
        return loop

    compiler = fused.Compiler(fail)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            compiler.ask(fused_loops.adam, F4)
            compiler.ask(fused_loops.ftrl, F4)
            compiler.wait()
    assert compiler.find(fused_loops.adam, F4) is None
    assert compiler.find(fused_loops.ftrl, F4) is fused_loops.ftrl
    (record,) = caplog.records
    assert "adam for float32 did not compile" in record.getMessage()
    assert "PARAMSERVE_FAST=0" in record.getMessage()


def test_a_closed_compiler_ends_after_the_loop_at_hand():
    held = HeldCompile()
    compiler = fused.Compiler(held)
    compiler.ask(fused_loops.adam, F4)
    compiler.ask(fused_loops.ftrl, F4)
    compiler.close()
    held.let.set()
    compiler.wait()
    compiler.ask(fused_loops.momentum, F4)
    compiler.wait()
    assert len(held.asked) <= 1


def test_a_process_that_gets_no_thread_stays_with_numpy(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    compiler = fused.Compiler(lambda loop, dtype: loop)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        compiler.ask(fused_loops.adam, F4)
    compiler.ask(fused_loops.ftrl, F4)
    compiler.wait()
    assert compiler.find(fused_loops.adam, F4) is None
    assert compiler.find(fused_loops.ftrl, F4) is None


def test_a_forked_child_keeps_what_is_ready_and_compiles_nothing():
    compiler = fused.Compiler(lambda loop, dtype: loop)
    compiler.ask(fused_loops.adam, F4)
    compiler.wait()
    compiler._lock.acquire()  # as the thread that the child lacks may have done
    compiler.close_after_fork()
    compiler.ask(fused_loops.ftrl, F4)
    compiler.wait()
    assert compiler.find(fused_loops.adam, F4) is fused_loops.adam
    assert compiler.find(fused_loops.ftrl, F4) is None


@pytest.mark.parametrize(
    ("value", "is_there", "wanted"),
    [(None, True, True), ("1", True, True), ("0", True, False), (None, False, False)],
)
def test_loops_are_compiled_where_the_extra_is_installed_and_not_switched_off(
    monkeypatch, value, is_there, wanted
):
    found = object() if is_there else None
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: found)
    monkeypatch.delenv(fused.FAST_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(fused.FAST_VARIABLE, value)
    compiler = fused.Compiler(lambda loop, dtype: loop, fused._is_wanted)
    for _ in range(2):
        compiler.ask(fused_loops.adam, F4)
        compiler.wait()
        assert (compiler.find(fused_loops.adam, F4) is not None) == wanted


def test_a_directory_that_everyone_can_write_is_no_place_for_machine_code(tmp_path):
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from paramserve_core.kernels import fused_numba

    tmp_path.chmod(0o700)
    assert fused_numba.is_private(str(tmp_path))
    tmp_path.chmod(0o777)
    assert not fused_numba.is_private(str(tmp_path))


ENDING = """
import numpy as np
from paramserve_core.kernels import fused, fused_loops

for loop in fused_loops.ROWS:
    fused.compiler().ask(loop, np.dtype("f4"))
"""


@pytest.mark.slow
def test_a_process_can_end_while_loops_are_being_compiled(tmp_path):
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", ENDING], check=True, timeout=60, env=environ)
