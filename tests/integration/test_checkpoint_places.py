"""Checkpoints of programs and servers at URLs, in fsspec's memory."""

import subprocess
import uuid

import numpy as np
import pytest

from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph
from paramserve._framework.scopes import device
from paramserve._saver.saver import Saver
from paramserve._saver.state import checkpoint_exists, latest_checkpoint
from paramserve._session.server import Server
from paramserve._session.session import Session
from paramserve_core import dtypes
from paramserve_core.cluster import ClusterSpec
from paramserve_core.errors import PermissionDeniedError
from processes import command_line, server


@pytest.fixture
def root() -> str:
    return f"memory://{uuid.uuid4().hex}/runs"


@pytest.fixture
def variable():
    """A variable on the first server, if there are any, and what gives it a value."""
    with Graph().as_default(), device("/job:ps/task:0"):
        value = apply_op("Placeholder", "value", dtype=dtypes.float32, shape=[3])
        ref = apply_op("VariableV2", "v", shape=[3], dtype=dtypes.float32)
        yield ref, value, apply_op("Assign", "set", ref=ref, value=value).op


def train_and_restore(session: Session, variable, directory: str) -> Saver:
    """Saves three checkpoints, of which two are kept, and restores the newest."""
    ref, value, assign = variable
    saver = Saver([ref], max_to_keep=2)
    for step in range(3):
        session.run(assign, {value: np.full(3, step)})
        saver.save(session, f"{directory}/model.ckpt", step)
    session.run(assign, {value: np.full(3, -1)})
    newest = latest_checkpoint(directory, session=session)
    assert newest == f"{directory}/model.ckpt-2"
    saver.restore(session, newest)
    assert session.run(ref).tolist() == [2, 2, 2]
    return saver


def test_program_without_servers_saves_to_a_url(root):
    with Graph().as_default():
        value = apply_op("Placeholder", "value", dtype=dtypes.float32, shape=[3])
        ref = apply_op("VariableV2", "v", shape=[3], dtype=dtypes.float32)
        assign = apply_op("Assign", "set", ref=ref, value=value).op
        with Session() as session:
            saver = train_and_restore(session, (ref, value, assign), root)
            # What a program on this machine finds without asking the session.
            assert latest_checkpoint(root) == f"{root}/model.ckpt-2"
            assert not checkpoint_exists(f"{root}/model.ckpt-0")
            fresh = Saver([ref])
            fresh.recover_last_checkpoints(saver.last_checkpoints)
            assert fresh.last_checkpoints == saver.last_checkpoints


def test_two_servers_share_a_root_that_is_a_url(root):
    servers = [Server({"ps": ["127.0.0.1:0"]}, checkpoint_root=f"{root}/all") for _ in range(2)]
    try:
        with Graph().as_default():
            value = apply_op("Placeholder", "value", dtype=dtypes.float32, shape=[3])
            refs, assigns = [], []
            for i in range(2):
                with device(f"/job:ps/task:{i}"):
                    refs.append(apply_op("VariableV2", f"v{i}", shape=[3], dtype=dtypes.float32))
                    assigns.append(apply_op("Assign", f"set{i}", ref=refs[i], value=value).op)
            saver = Saver(refs)
            addresses = [s.target.removeprefix("grpc://") for s in servers]
            with Session(ClusterSpec({"ps": addresses})) as session:
                session.run(assigns, {value: np.ones(3)})
                path = saver.save(session, "model", 1)
                session.run(assigns, {value: np.zeros(3)})
            # On other servers, so that each reads what the other wrote.
            with Session(ClusterSpec({"ps": addresses[::-1]})) as session:
                saver.restore(session, f"{root}/all/{path}")
                assert np.array(session.run(refs)).tolist() == [[1] * 3] * 2
    finally:
        for each in servers:
            each.stop()


@pytest.mark.slow
def test_server_process_keeps_checkpoints_at_a_url(tmp_path, root, variable):
    with server(tmp_path, "--checkpoint-root", root) as process, Session(process.target) as session:
        train_and_restore(session, variable, root)
        train_and_restore(session, variable, ".")
        with pytest.raises(PermissionDeniedError, match="is outside the directory"):
            Saver([variable[0]]).save(session, "memory://elsewhere/model")


@pytest.mark.slow
def test_server_whose_store_is_not_to_be_had_says_so_in_one_line():
    process = subprocess.run(
        command_line("serve", "--listen", "127.0.0.1:0", "--checkpoint-root", "nosuch://bucket"),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("paramserve: --checkpoint-root: nosuch://: ")
    assert process.stderr.count("\n") == 1
