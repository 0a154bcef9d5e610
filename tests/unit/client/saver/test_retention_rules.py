"""Which checkpoints a saver keeps, by a clock of the test's, and what savers leave each other."""

import os

import numpy as np

from paramserve._framework.graph import Graph
from paramserve._saver.retention import Retention
from paramserve._saver.saver import Saver
from paramserve._saver.state import get_checkpoint_state, latest_checkpoint
from paramserve._session.session import Session
from paramserve._variables.variable import Variable

HOUR_S = 3600.0


def saved_every(hours: float, count: int, **rules) -> tuple[list[str], list[str]]:
    """The paths that are remembered after so many saves, and those deleted until then."""
    now = 1e9
    retention = Retention(clock=lambda: now, **rules)
    deleted: list[str] = []
    for number in range(count):
        now += hours * HOUR_S
        plan = retention.plan(f"m-{number}")
        retention.carried_out(plan)
        deleted += plan.deleted
    return retention.paths, deleted


def test_one_checkpoint_every_n_hours_is_kept_for_good():
    remembered, deleted = saved_every(0.5, 12, max_to_keep=2, every_n_hours=2.0)
    assert remembered == ["m-10", "m-11"]
    # At 2.5 and 4.5 hours, the first that are more than 2 and 4 hours old.
    assert sorted(set(range(10)) - {int(path[2:]) for path in deleted}) == [4, 8]


def test_without_hours_only_the_newest_stay():
    remembered, deleted = saved_every(0.5, 5, max_to_keep=2, every_n_hours=10_000.0)
    assert (remembered, deleted) == (["m-3", "m-4"], ["m-0", "m-1", "m-2"])


def test_save_that_failed_leaves_the_list_as_it_was():
    retention = Retention(2, 1.0)
    retention.carried_out(retention.plan("m-0"))
    retention.plan("m-1")
    assert retention.paths == ["m-0"]


def test_two_savers_in_one_directory_delete_only_what_is_their_own(tmp_path):
    with Graph().as_default(), Session() as session:
        variable = Variable(np.float32(1), name="v")
        session.run(variable.initializer)
        often = Saver([variable], max_to_keep=2)
        best = Saver([variable], max_to_keep=1)
        for step in range(4):
            often.save(session, f"{tmp_path}/model", step, write_meta_graph=False)
            if step % 2:
                best.save(session, f"{tmp_path}/best", step, "best_state", write_meta_graph=False)
        names = {name.partition(".")[0] for name in os.listdir(tmp_path)}
        assert names == {"model-2", "model-3", "best-3", "checkpoint", "best_state"}
        assert latest_checkpoint(str(tmp_path)) == f"{tmp_path}/model-3"
        assert latest_checkpoint(str(tmp_path), "best_state") == f"{tmp_path}/best-3"
        state = get_checkpoint_state(str(tmp_path))
        assert list(state.all_model_checkpoint_paths) == often.last_checkpoints
        best.restore(session, f"{tmp_path}/best-3")
