"""`paramserve top` in front of servers that say what the test tells them to."""

import io
import json

import pytest
from rich.console import Console

from paramserve_core import dtypes
from paramserve_core.errors import InternalError
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import service_pb2
from paramserve_server.cli.targets import NotReachedError
from paramserve_server.cli.top import TopOptions, watch


class Scripted:
    """A server that makes ten steps between two looks.

    Args:
        address: where it is asked.
        gone: the looks, from 0, in which it cannot be reached.
    """

    def __init__(self, address: str = "a:1", gone: tuple[int, ...] = ()) -> None:
        self.address = address
        self.asked_for: list[int] = []
        self._gone = gone
        self._look = -1

    def describe(self, timeout_s: float) -> service_pb2.DescribeResponse:
        self._look += 1
        if self._look in self._gone:
            raise NotReachedError(f"{self.address}: it is gone")
        return service_pb2.DescribeResponse(
            task=service_pb2.Task(name=f"/job:{self.address[0]}/task:0", incarnation=1),
            uptime_s=100.0 + 2 * self._look,
            activity=service_pb2.Activity(
                steps=1000 + 10 * self._look,
                transports=[service_pb2.TransportActivity(transport="shm", connections=7)],
                failures=[service_pb2.FailureCount(code=3, count=self._look)],
            ),
        )

    def variables(self, timeout_s: float, largest: int = 0) -> list[service_pb2.VariableInfo]:
        self.asked_for.append(largest)
        return [
            service_pb2.VariableInfo(
                name=f"{self.address[0]}/[red]{size}",
                dtype=dtypes.float32.as_datatype_enum,
                shape=TensorShape([size]).as_proto(),
                bytes=4 * size,
            )
            for size in (30, 20)
        ]


def run(*servers, sleep=lambda seconds: None, terminal=False, **options) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, height=60)
    watch(servers, TopOptions(**options), console, sleep)
    return file.getvalue()


def interrupted_after(looks: int):
    """A sleep that Ctrl-C ends after so many."""
    left = [looks]

    def sleep(seconds: float) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1

    return sleep


def test_json_is_a_line_for_each_interval():
    pauses: list[float] = []
    out = run(Scripted(), as_json=True, count=3, interval_s=2.5, sleep=pauses.append)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["servers"][0]["steps"] for line in lines] == [1010, 1020, 1030]
    assert pauses == [2.5] * 3
    (server,) = lines[0]["servers"]
    assert server["target"] == "a:1"
    assert server["steps_per_s"] == 5.0
    assert server["transports"]["shm"]["connections"] == 7
    assert server["failures"] == {"InvalidArgumentError": {"count": 1, "total": 1}}
    assert server["largest_variables"][0]["shape"] == [30]


def test_only_as_many_variables_are_asked_for_as_are_shown():
    server = Scripted()
    run(server, count=1, largest=4)
    assert server.asked_for == [4, 4]
    without = Scripted()
    run(without, count=1, largest=0)
    assert without.asked_for == []


def test_several_servers_are_columns_beside_each_other():
    out = run(Scripted("a:1"), Scripted("b:2"), count=1)
    header, task = out.splitlines()[:2]
    assert header.split() == ["a:1", "b:2"]
    assert task.split() == ["task", "/job:a/task:0", "/job:b/task:0"]


def test_the_largest_variables_of_all_servers_are_shown_by_their_names():
    out = run(Scripted("a:1"), Scripted("b:2"), count=1, largest=2)
    shown = [line.split()[0] for line in out.splitlines() if "[red]" in line]
    assert shown == ["a/[red]30", "b/[red]30"]


@pytest.mark.parametrize("options", [{"as_json": True}, {"count": 5}])
def test_a_server_that_goes_away_ends_what_a_program_waits_for(options):
    with pytest.raises(NotReachedError, match="a:1: it is gone"):
        run(Scripted(gone=(2,)), sleep=interrupted_after(10), **options)


def test_people_are_told_of_a_server_that_went_away_and_see_it_return():
    out = run(Scripted("a:1", gone=(2,)), Scripted("b:2"), sleep=interrupted_after(3))
    assert out.count("a:1: it is gone; asking again") == 1
    steps = [line.split()[1:] for line in out.splitlines() if line.split()[:1] == ["steps/s"]]
    # While it was gone it did twice as much in twice the time.
    assert steps == [["5.0", "5.0"], ["-", "5.0"], ["5.0", "5.0"]]


def test_a_server_that_was_never_there_is_not_waited_for():
    with pytest.raises(NotReachedError, match="b:2: it is gone"):
        run(Scripted("a:1"), Scripted("b:2", gone=(0,)), sleep=interrupted_after(0))


def test_a_server_that_fails_is_not_asked_again():
    class Failing(Scripted):
        def describe(self, timeout_s):
            raise InternalError(None, None, "broken")

    with pytest.raises(InternalError, match="broken"):
        run(Failing(), sleep=interrupted_after(0))


@pytest.mark.parametrize("options", [{}, {"as_json": True}, {"terminal": True}])
def test_an_interrupt_ends_it_well(options):
    out = run(Scripted(), sleep=interrupted_after(2), **options)
    assert out


def test_a_terminal_shows_at_once_what_was_done_since_the_start():
    out = run(Scripted(), terminal=True, sleep=interrupted_after(0))
    assert "10.0" in next(line for line in out.splitlines() if "steps/s" in line)
    assert run(Scripted(), sleep=interrupted_after(0)) == ""
