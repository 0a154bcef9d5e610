"""`paramserve run`: a cluster on this machine that leaves nothing behind, however it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from processes import command_line

pytestmark = pytest.mark.slow

WAIT_S = 60


class Launched:
    """One `paramserve run`, whose lines can be read as they come."""

    def __init__(self, folder: Path, program: str, *options: str) -> None:
        script = folder / "program.py"
        script.write_text(textwrap.dedent(program))
        self.process = subprocess.Popen(
            command_line("run", *options, "--", sys.executable, str(script)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, list[str], str]:
        """Waits for its end; answers exit code, the lines that were left, and stderr."""
        out, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, sorted(out.splitlines()), err


@contextlib.contextmanager
def launched(folder: Path, program: str, *options: str) -> Iterator[Launched]:
    run = Launched(folder, program, *options)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


def wait_for(processes: list[psutil.Process]) -> None:
    """Until all of them have ended; fails for one that stays."""
    _, alive = psutil.wait_procs(processes, timeout=WAIT_S)
    # Killed with their parent, they stay zombies where nobody adopts them.
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_each_worker_learns_the_cluster_and_its_place_in_it(tmp_path):
    program = """
        import json, os
        config = json.loads(os.environ["TF_CONFIG"])
        print(json.dumps([config["task"], len(config["cluster"]["ps"])]))
    """
    with launched(tmp_path, program, "--ps", "2", "--workers", "3") as run:
        code, lines, err = run.end()
    assert (code, err) == (0, "")
    assert [line.partition("] ")[0] for line in lines] == [f"[worker {i}" for i in range(3)]
    for index, line in enumerate(lines):
        assert json.loads(line.partition("] ")[2]) == [{"type": "worker", "index": index}, 2]


@pytest.mark.parametrize("said", [None, "7"])
def test_workers_share_the_cores_unless_told_otherwise(tmp_path, monkeypatch, said):
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    program = "import os; print(os.environ['OMP_NUM_THREADS'])"
    with launched(tmp_path, program, "--workers", "2") as run:
        code, lines, err = run.end()
    assert (code, err) == (0, "")
    wanted = said or str(max(len(os.sched_getaffinity(0)) // 2, 1))
    assert lines == [f"[worker {i}] {wanted}" for i in range(2)]


def test_workers_share_the_variables_of_the_servers(tmp_path):
    program = """
        import sys
        import numpy as np
        sys.path.insert(0, TESTS)
        from graph_builder import GraphBuilder
        from paramserve_core.cluster import ClusterSpec
        from paramserve_core.master.connect import connect_master

        graph = GraphBuilder()
        for index in range(2):
            device = f"/job:ps/task:{index}"
            graph.variable(f"v{index}", device=device)
            graph.placeholder(f"x{index}", device=device)
            graph.assign(f"set{index}", f"v{index}", f"x{index}", device=device)
        master = connect_master(ClusterSpec.from_env())
        master.extend(graph.graph)
        plan = master.prepare([], ["x0:0", "x1:0"], ["set0", "set1"])
        master.run(plan, [np.full((), i, np.float32) for i in range(2)])
        print(sorted((v.name, v.task[-1]) for v in master.variables()))
        master.close()
    """.replace("TESTS", repr(str(Path(__file__).parents[1])))
    with launched(tmp_path, program, "--ps", "2") as run:
        code, lines, err = run.end()
    assert (code, err) == (0, "")
    assert lines == ["[worker 0] [('v0', '0'), ('v1', '1')]"]


def test_what_a_worker_prints_arrives_to_the_last_line_on_its_own_stream(tmp_path):
    program = """
        import sys
        for number in range(2000):
            print(number)
        print("of errors", file=sys.stderr)
        print("without an end", end="")
    """
    with launched(tmp_path, program) as run:
        out, err = run.process.communicate(timeout=WAIT_S)
    assert out.splitlines() == [f"[worker 0] {i}" for i in range(2000)] + [
        "[worker 0] without an end"
    ]
    assert err == "[worker 0] of errors\n"


def test_the_exit_code_is_that_of_a_worker_that_failed_and_all_else_ends(tmp_path):
    program = """
        import json, os, sys, time
        if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
            sys.exit(7)
        print("waiting", flush=True)
        time.sleep(3600)
    """
    with launched(tmp_path, program, "--workers", "2") as run:
        code, _, err = run.end()
    assert code == 7
    assert err == "paramserve: worker 1 ended with exit code 7\n"


def test_a_program_that_cannot_be_started_is_named(tmp_path):
    done = subprocess.run(
        command_line("run", "--", "no-such-program"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=WAIT_S,
    )
    assert done.returncode == 127
    assert "no-such-program: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_servers_that_cannot_start_say_why(tmp_path):
    (tmp_path / "file").touch()
    with launched(tmp_path, "pass", "--checkpoint-root", "file") as run:
        code, _, err = run.end()
    assert code == 1
    assert "[ps 0] paramserve: --checkpoint-root: file/ps0 cannot be written" in err
    assert "paramserve: ps 0 did not start; it ended with exit code 1" in err


STAYS = """
    import subprocess, sys, time
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    print("ready", flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_servers_workers_and_what_these_started(tmp_path, number):
    with launched(tmp_path, STAYS, "--ps", "2") as run:
        assert run.line() == "[worker 0] ready"
        children = run.children()
        assert len(children) == 4
        run.process.send_signal(number)
        code, _, err = run.end()
        wait_for(children)
    assert code == 128 + number
    assert err == ""


def test_workers_that_ignore_the_signal_are_killed(tmp_path):
    program = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(3600)
    """
    with launched(tmp_path, program) as run:
        assert run.line() == "[worker 0] ready"
        run.process.terminate()
        code, _, _ = run.end()
    assert code == 128 + signal.SIGTERM


def test_servers_and_workers_die_with_a_launcher_that_is_killed(tmp_path):
    program = """
        import time
        print("ready", flush=True)
        time.sleep(3600)
    """
    with launched(tmp_path, program, "--ps", "2", "--workers", "2") as run:
        assert [run.line()[-5:] for _ in range(2)] == ["ready", "ready"]
        children = run.children()
        assert len(children) == 4
        run.process.kill()
        wait_for(children)


def test_a_server_that_is_killed_ends_the_run(tmp_path):
    with launched(tmp_path, STAYS, "--ps", "2") as run:
        assert run.line() == "[worker 0] ready"
        (victim,) = [c for c in run.children() if "--task" in c.cmdline() and "1" in c.cmdline()]
        victim.kill()
        code, _, err = run.end()
    assert code == 1
    assert err == "paramserve: ps 1 ended with SIGKILL\n"


def test_output_that_nobody_reads_does_not_hold_the_workers_up(tmp_path):
    program = """
        import os
        for number in range(50000):
            print(number)
        open("done", "w").close()
    """
    with launched(tmp_path, program) as run:
        assert run.line() == "[worker 0] 0"
        assert run.process.stdout is not None
        run.process.stdout.close()
        run.process.wait(timeout=WAIT_S)
    assert (tmp_path / "done").exists()


def test_a_child_ends_at_once_when_its_parent_is_gone_already():
    from paramserve_server.cli import child

    command = [sys.executable, child.__file__, str(os.getpid() + 1), "echo", "alive"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    command[2] = str(os.getpid())
    assert subprocess.run(command, capture_output=True, text=True).stdout == "alive\n"


def test_ctrl_c_before_the_servers_are_ready_ends_them(tmp_path):
    with launched(tmp_path, "pass", "--ps", "3") as run:
        pause = threading.Event()
        while len(run.children()) < 3:
            pause.wait(0.005)
        children = run.children()
        run.process.send_signal(signal.SIGINT)
        code, _, _ = run.end()
        wait_for(children)
    assert code == 128 + signal.SIGINT


def test_what_a_failed_worker_started_ends_with_it(tmp_path):
    program = """
        import os, subprocess, sys
        started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        print(started.pid, flush=True)
        os._exit(3)
    """
    with launched(tmp_path, program) as run:
        started = int(run.line().partition("] ")[2])
        code, _, err = run.end()
    assert code == 3
    assert "worker 0 ended with exit code 3" in err
    with contextlib.suppress(psutil.NoSuchProcess):
        wait_for([psutil.Process(started)])
