"""A worker of the benchmarks notices every update that was lost, and every one that was doubled."""

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
from benchmarks.worker import Worker, obey
from benchmarks.workloads import ADAM_RATE, SGD_RATE, Act, Group, Update

DENSE = Group(name="dense", shape=(6,), count=3)
ADAM = Group(name="adam", shape=(6,), update=Update.ADAM)
COUNTER = Group(name="counter", update=Update.COUNT)
TABLE = Group(name="table", shape=(64, 3), update=Update.ROWS)


class ArraysInProcess:
    """A peer whose server is itself; it loses or doubles the updates that it is told to."""

    def __init__(self, group, applied):
        self.group = group
        self.values = [np.zeros(group.shape, np.float32) for _ in range(group.count)]
        self._applied = applied

    def times(self):
        return next(self._applied, 1)

    def add(self):
        self.values[0] += self.times()
        return float(self.values[0])

    def gradients(self):
        return [np.ones(self.group.shape, np.float32) for _ in self.values]

    def index(self, rows):
        return rows

    def updates(self, values):
        return values

    def pull(self):
        return [value.copy() for value in self.values]

    def push(self, gradients):
        rate = ADAM_RATE if self.group.update is Update.ADAM else SGD_RATE
        times = self.times()
        for value, gradient in zip(self.values, gradients, strict=True):
            value -= rate * gradient * times

    def gather(self, rows):
        return [self.values[0][rows]]

    def scatter_sub(self, rows, updates):
        np.subtract.at(self.values[0], rows, updates * self.times())

    def arrays(self, pulled):
        return pulled

    def close(self, *, drop):
        self.values.clear()


class ClientInProcess:
    def __init__(self, applied=()):
        self.applied = iter(applied)

    def open(self, group, *, create):
        self.tensors = ArraysInProcess(group, self.applied)
        return self.tensors

    def close(self):
        pass


def worker_with(group, *applied):
    """A worker; the first updates are applied so many times, all later ones once."""
    client = ClientInProcess([1, *applied] if group.update is Update.ROWS else applied)
    worker = Worker(client)
    worker.open(json.loads(json.dumps(asdict(group))), create=True)
    return worker


UPDATES = [(DENSE, Act.PUSH), (ADAM, Act.PUSH), (COUNTER, Act.ADD), (TABLE, Act.SCATTER)]


@pytest.mark.parametrize(("group", "act"), UPDATES)
def test_updates_applied_once_are_right(group, act):
    worker = worker_with(group)
    worker.act(act, 20)
    assert worker.check(20) == ""


@pytest.mark.parametrize("times", [0, 2])
@pytest.mark.parametrize(("group", "act"), UPDATES)
def test_an_update_lost_or_doubled_is_noticed(group, act, times):
    worker = worker_with(group, 1, times)
    worker.act(act, 20)
    assert "wrong" in worker.check(20)


def test_a_single_wrong_element_is_noticed_and_shown():
    worker = worker_with(DENSE)
    worker.act(Act.STEP, 4)
    worker._tensors.values[2][5] = 7
    assert worker.check(4) == (
        "a variable: 1 of 6 elements are wrong, such as 7.0, which should be -2.0"
    )


def test_variables_that_were_not_pulled_are_noticed():
    worker = worker_with(DENSE)
    worker._tensors.values.pop()
    assert worker.check(0) == "pulled 2 variables, the first of shape (6,)"


def test_rows_hold_their_own_numbers_at_first_and_are_gathered_in_turns():
    worker = worker_with(TABLE)
    rows = TABLE.row_sets()
    for expected in [*rows, rows[0]]:
        worker.act(Act.GATHER, 1)
        np.testing.assert_array_equal(worker._held[0], np.repeat(expected[:, None], 3, axis=1))


def test_row_sets_share_no_row():
    sets = TABLE.row_sets()
    assert len(np.unique(sets)) == sets.size


def test_every_repetition_has_its_time():
    times = worker_with(DENSE).act(Act.PULL, 5)["times"]
    assert len(times) == 6
    assert times == sorted(times)


def test_commands_are_answered_line_by_line():
    commands = [
        {"do": "open", "group": asdict(DENSE), "create": True},
        {"do": "act", "act": "push", "repetitions": 2},
        {"do": "check", "updates": 2},
        {"do": "close", "drop": True},
    ]
    answers = io.StringIO()
    obey(ClientInProcess(), map(json.dumps, commands), answers)
    opened, acted, checked, closed = map(json.loads, answers.getvalue().splitlines())
    assert (opened, checked, closed) == (None, "", None)
    assert len(acted["times"]) == 3
