"""Summary functions: names, tags, collections, and what a session answers."""

import pytest

import paramserve as ps


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


def run(summary):
    with ps.Session() as sess:
        return ps.Summary.FromString(sess.run(summary))


def test_the_tag_is_the_name_with_its_scopes():
    with ps.name_scope("train"):
        loss = ps.summary.scalar("loss", 0.5)
        again = ps.summary.scalar("loss", 0.5)
    assert loss.name == "train/loss:0"
    assert run(loss).value[0].tag == "train/loss"
    assert run(again).value[0].tag == "train/loss_1"
    assert run(loss).value[0].simple_value == 0.5


def test_what_a_name_may_not_have_is_replaced():
    assert run(ps.summary.scalar("/mean loss:é", 1)).value[0].tag == "mean_loss__"


def test_a_family_leads_the_tag():
    with ps.name_scope("outer"):
        x = ps.summary.histogram("x", [1.0, 2.0], family="fam")
    assert x.op.name == "outer/fam/x"
    value = run(x).value[0]
    assert value.tag == "fam/outer/fam/x"
    assert value.histo.num == 2


def test_older_functions_take_the_tag():
    summary = ps.scalar_summary(["a", "b"], [1.0, 2.0], name="s")
    assert summary.op.name == "s"
    assert [(v.tag, v.simple_value) for v in run(summary).value] == [("a", 1.0), ("b", 2.0)]
    assert run(ps.histogram_summary("h", [1.0])).value[0].tag == "h"


def test_all_summaries_are_merged():
    assert ps.summary.merge_all() is None
    assert ps.merge_all_summaries() is None
    ps.summary.scalar("a", 1.0)
    ps.summary.histogram("b", [1.0])
    ps.summary.scalar("elsewhere", 1.0, collections=["mine"])
    assert [v.tag for v in run(ps.merge_all_summaries()).value] == ["a", "b"]
    assert [v.tag for v in run(ps.summary.merge_all("mine")).value] == ["elsewhere"]
    assert [v.tag for v in run(ps.summary.merge_all(scope="b")).value] == ["b"]


def test_a_merged_summary_is_in_no_collection_unless_asked(graph):
    a = ps.summary.scalar("a", 1.0, collections=[])
    merged = ps.summary.merge([a], name="all")
    assert merged.op.type == "MergeSummary"
    assert graph.get_collection(ps.GraphKeys.SUMMARIES) == []
    also = ps.merge_summary([a], collections=["mine"])
    assert graph.get_collection("mine") == [also]
    with pytest.raises(ValueError, match="shorter than minimum length 1"):
        ps.summary.merge([])


def test_variables_and_types_of_any_width_are_summarized():
    v = ps.Variable([1, 2, 3], name="v")
    histogram = ps.summary.histogram("h", v)
    with ps.Session() as sess:
        sess.run(v.initializer)
        assert ps.Summary.FromString(sess.run(histogram)).value[0].histo.sum == 6
    with pytest.raises(TypeError, match="string"):
        ps.summary.scalar("text", "x")
