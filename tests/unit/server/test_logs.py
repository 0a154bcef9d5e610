"""Logs are JSON lines, and no peer can fill them."""

import io
import json
import logging

import pytest

from paramserve_server import logs
from paramserve_server.logs import JsonFormatter, OncePerPeer


@pytest.fixture
def logged(monkeypatch):
    """A logger, and the function that answers what it wrote."""
    stream = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    logs.configure("info")
    yield (
        logging.getLogger("paramserve.test"),
        lambda: [json.loads(line) for line in stream.getvalue().splitlines()],
    )
    root.setLevel(level)


def test_a_record_is_one_line_of_json_with_its_extras(logged):
    log, lines = logged
    log.info("two\nlines %d", 7, extra={"task": "/job:ps", "path": object})
    (line,) = lines()
    assert line["message"] == "two\nlines 7"
    assert line["level"] == "info"
    assert line["logger"] == "paramserve.test"
    assert line["task"] == "/job:ps"
    assert line["time"].endswith("Z")


def test_what_is_below_the_level_is_not_written(logged):
    log, lines = logged
    log.debug("detail")
    assert lines() == []


def test_an_exception_is_in_its_line(logged):
    log, lines = logged
    try:
        raise ValueError("a bug")
    except ValueError:
        log.exception("failed")
    (line,) = lines()
    assert "ValueError: a bug" in line["exception"]


def test_the_same_complaint_of_the_same_host_is_written_once(logged):
    log, lines = logged
    for port in range(100):
        log.warning("message refused", extra={"peer": f"ipv4:10.0.0.1:{port}", "error": "x"})
    log.warning("call refused", extra={"peer": "ipv4:10.0.0.1:5"})
    log.warning("message refused", extra={"peer": "ipv4:10.0.0.2:5"})
    log.warning("without a peer")
    log.warning("without a peer")
    assert len(lines()) == 5


def test_only_so_many_complaints_are_remembered():
    once = OncePerPeer(most=2)

    def passes(host: str) -> bool:
        record = logging.makeLogRecord({"msg": "refused", "peer": f"{host}:1"})
        return once.filter(record)

    assert [passes(host) for host in "abab"] == [True, True, False, False]
    assert passes("c")  # a is forgotten
    assert not passes("b")
    assert passes("a")


def test_a_field_that_is_no_json_is_written_as_text():
    record = logging.makeLogRecord({"msg": "m", "levelname": "INFO", "task": {1, 2}})
    assert "{1, 2}" in JsonFormatter().format(record)
