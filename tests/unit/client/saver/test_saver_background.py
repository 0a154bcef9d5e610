"""Saving while the program goes on."""

import numpy as np
import pytest

from paramserve._saver.saver import Saver
from paramserve._saver.state import (
    checkpoint_exists,
)
from paramserve._session.session import Session
from paramserve_core.errors import (
    FailedPreconditionError,
    OpError,
)
from saving import initialize, save, saved_paths, variable


def test_save_that_does_not_block_has_the_values_of_its_moment(tmp_path):
    v = variable("v", np.zeros(1000))
    saver = Saver(max_to_keep=1)
    with Session() as session:
        initialize(session)
        pending = [save(saver, session, tmp_path / "m", 0, block=False)]
        for step in (1, 2):
            v.load(np.full(1000, step), session)
            pending.append(save(saver, session, tmp_path / "m", step, block=False))
        v.load(np.full(1000, -1.0), session)
        paths = [handle.result(60.0) for handle in pending]
        assert paths == [f"{tmp_path}/m-{step}" for step in range(3)]
        assert all(handle.done() and handle.progress() == 1.0 for handle in pending)
        assert saver.last_checkpoints == paths[-1:]
        assert not checkpoint_exists(paths[0])
        saver.restore(session, paths[-1])
        assert set(session.run(v)) == {2.0}


def test_save_that_does_not_block_says_at_once_what_cannot_be_saved(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
            save(saver, session, tmp_path / "m", block=False)
        initialize(session)
        with pytest.raises(ValueError, match="Parent directory"):
            save(saver, session, tmp_path / "a" / "m", block=False)


def test_save_that_fails_later_says_so_when_asked(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        initialize(session)
        (tmp_path / "m-2.safetensors.index.json").mkdir()
        pending = save(saver, session, tmp_path / "m", 2, block=False)
        for _ in range(2):
            with pytest.raises(OpError, match="m-2"):
                pending.result(60.0)
        assert pending.done()
        assert saver.last_checkpoints == []
        save(saver, session, tmp_path / "m", 3)
        assert saved_paths(saver) == ["m-3"]
