"""Names and files that no saver makes: each is an error that says what to do."""

import logging
import re

import pytest

import paramserve as ps
from paramserve.errors import DataLossError, FailedPreconditionError, InvalidArgumentError

HALF = "half\ud800"


@pytest.fixture
def saved(tmp_path):
    """A session with a variable, its saver, and a directory with a checkpoint."""
    with ps.Graph().as_default(), ps.Session() as sess:
        variable = ps.Variable([1.0, 2.0], name="v")
        sess.run(ps.initialize_all_variables())
        saver = ps.train.Saver([variable])
        saver.save(sess, tmp_path / "model")
        yield sess, saver, variable


def write_state(tmp_path, newest, *kept):
    lines = [f'model_checkpoint_path: "{newest}"']
    lines += [f'all_model_checkpoint_paths: "{path}"' for path in kept]
    (tmp_path / "checkpoint").write_text("\n".join(lines))


@pytest.mark.parametrize("path", ["../model", "./../../etc/model", "a/../../model", ".."])
@pytest.mark.parametrize("asks", ["the disk", "the session"])
def test_a_state_file_cannot_lead_out_of_its_directory(saved, tmp_path, path, asks):
    session = saved[0] if asks == "the session" else None
    wanted = re.escape(f"{tmp_path / 'checkpoint'} names the checkpoint {path!r}")
    write_state(tmp_path, path, "model")
    with pytest.raises(DataLossError, match=wanted):
        ps.train.latest_checkpoint(str(tmp_path), session=session)
    write_state(tmp_path, "model", path)
    with pytest.raises(DataLossError, match="restore a checkpoint by its own path"):
        ps.train.get_checkpoint_state(str(tmp_path), session=session)


def test_a_state_file_may_name_what_is_below_it_and_absolute_paths(saved, tmp_path):
    write_state(tmp_path, "./a/../model", "/elsewhere/model", "..model/old")
    state = ps.train.get_checkpoint_state(str(tmp_path))
    assert state.model_checkpoint_path == f"{tmp_path}/./a/../model"
    assert ps.train.latest_checkpoint(str(tmp_path), session=saved[0]) is not None


def test_a_save_replaces_a_state_file_that_leads_out(saved, tmp_path):
    sess, saver, _ = saved
    write_state(tmp_path, "../model", "../model")
    saver.save(sess, tmp_path / "model", global_step=1)
    assert ps.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model-1")


def test_a_directory_in_the_place_of_the_state_file_is_told_of(saved, tmp_path, caplog):
    sess, saver, _ = saved
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(FailedPreconditionError, match=r"checkpoint: it is no.*; move it away"):
        saver.save(sess, tmp_path / "model", global_step=1)
    with caplog.at_level(logging.WARNING):
        assert ps.train.latest_checkpoint(str(tmp_path)) is None
    assert "move it away" in caplog.text


@pytest.mark.parametrize(
    "do",
    [
        lambda sess, saver, variable: saver.save(sess, HALF),
        lambda sess, saver, variable: saver.restore(sess, HALF),
        lambda sess, saver, variable: ps.train.Saver({HALF: variable}),
        lambda sess, saver, variable: ps.train.latest_checkpoint(HALF, session=sess),
        lambda sess, saver, variable: ps.train.latest_checkpoint(HALF),
        lambda sess, saver, variable: ps.train.checkpoint_exists(HALF),
    ],
)
def test_half_a_character_is_no_part_of_a_name(saved, do):
    with pytest.raises(ValueError, match=r"lone surrogate at 4.*give it another name") as raised:
        do(*saved)
    assert not isinstance(raised.value, UnicodeEncodeError)
    assert r"half\ud800" in str(raised.value)


@pytest.mark.parametrize("path", [HALF, f"{HALF}/model"])
def test_a_reader_of_half_a_character_says_so(path):
    with pytest.raises(InvalidArgumentError, match="lone surrogate"):
        ps.train.NewCheckpointReader(path)


def test_a_value_that_is_missing_is_told_with_what_to_do(saved):
    sess, _, _ = saved
    missing = ps.Variable(1.0, name="missing")
    advice = (
        "^Attempting to use uninitialized value missing; run its initializer.*or restore a check"
    )
    for do in (
        lambda: sess.run(missing),
        lambda: ps.train.Saver([missing]).save(sess, "never"),
    ):
        with pytest.raises(FailedPreconditionError) as raised:
            do()
        assert re.match(advice, raised.value.message)


def test_shapes_that_differ_are_told_in_one_notation(saved, tmp_path):
    sess, _, _ = saved
    other = ps.Variable([[1.0]], name="other")
    with pytest.raises(InvalidArgumentError, match=r"shape \(2,\) in .*, \(1, 1\) in the graph"):
        ps.train.Saver({"v": other}).restore(sess, tmp_path / "model")
