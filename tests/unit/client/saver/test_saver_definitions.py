"""Savers as definitions, and as ops in a graph."""

import numpy as np
import pytest

from paramserve._saver.saver import Saver
from paramserve._session.session import Session
from paramserve._variables.save_slice import SaveSliceInfo
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_protos.v1.saver_pb2 import SaverDef
from saving import initialize, save, variable


def test_definition_names_the_ops(graph):
    variable("v", [1.0])
    saver = Saver(max_to_keep=3, keep_checkpoint_every_n_hours=2.0)
    assert saver.as_saver_def() == SaverDef(
        filename_tensor_name="save/Const:0",
        save_tensor_name="save/control_dependency:0",
        restore_op_name="save/restore_all",
        max_to_keep=3,
        keep_checkpoint_every_n_hours=2.0,
        version=SaverDef.V2,
    )
    kinds = {op.name: op.type for op in graph.get_operations() if op.name.startswith("save/")}
    assert kinds["save/SaveV2"] == "SaveV2"
    assert kinds["save/RestoreV2"] == "RestoreV2"
    assert kinds["save/Assign"] == "Assign"
    assert [t.name for t in graph.get_operation_by_name("save/SaveV2").inputs] == [
        "save/Const:0",
        "save/SaveV2/tensor_names:0",
        "save/SaveV2/shape_and_slices:0",
        "v:0",
    ]


def test_ops_of_a_saver_save_and_restore(tmp_path, graph):
    a, b = variable("a", [1.0]), variable("b", [[2, 3]])
    for sharded, sequential in [(False, False), (True, False), (False, True)]:
        saver = Saver(sharded=sharded, restore_sequentially=sequential)
        definition = saver.as_saver_def()
        path = str(tmp_path / f"m{sharded}{sequential}")
        with Session() as session:
            initialize(session)
            fed = {definition.filename_tensor_name: np.array(path.encode(), object)}
            assert session.run(definition.save_tensor_name, fed) == path.encode()
            a.load([5.0], session)
            b.load([[6, 7]], session)
            session.run(definition.restore_op_name, fed)
            assert session.run(a).tolist() == [1.0]
            assert session.run(b).tolist() == [[2, 3]]


def test_saver_of_a_definition_manages_the_same_variables(tmp_path):
    full = np.arange(4, dtype=np.float32)
    parts = [
        variable(f"t{i}", full[2 * i : 2 * i + 2], info=SaveSliceInfo("t", (4,), (2 * i,), (2,)))
        for i in range(2)
    ]
    v = variable("v", [1.0])
    definition = Saver({"w": v, "t": parts}).to_proto()
    saver = Saver.from_proto(definition)
    with Session() as session:
        initialize(session, *parts)
        path = save(saver, session, tmp_path / "m")
        reader = CheckpointReader(path)
        assert reader.get_variable_to_shape_map() == {"t": [4], "w": [1]}
        assert (reader.get_tensor("t") == full).all()
        v.load([2.0], session)
        saver.restore(session, path)
        assert session.run(v).tolist() == [1.0]


def test_definition_leaves_out_the_scope_that_is_exported(graph):
    with graph.name_scope("tower"):
        variable("v", [1.0])
        saver = Saver()
    assert saver.to_proto("tower").restore_op_name == "save/restore_all"
    assert saver.to_proto("other") is None
    assert Saver.from_proto(saver.to_proto("tower"), "tower").saver_def == saver.saver_def


def test_definition_without_its_ops_is_refused(tmp_path):
    variable("v", [1.0])
    saver = Saver(saver_def=SaverDef(restore_op_name="save/restore_all"))
    with Session() as session, pytest.raises(ValueError, match="is not in the session's graph"):
        saver.restore(session, str(tmp_path / "m"))
