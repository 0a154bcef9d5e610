"""What a terminal shows while a save or a restore takes long."""

import io
import threading
from contextlib import redirect_stderr

import pytest

from paramserve._saver.progress import shown

SHOWN_IN_S = 20.0


class Terminal(io.StringIO):
    """A stderr, and an event that is set when something was written to it."""

    def __init__(self, *, is_terminal: bool = True) -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self.written = threading.Event()

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        count = super().write(text)
        if "saving" in self.getvalue():
            self.written.set()
        return count


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def left_on(terminal: Terminal) -> str:
    """What is on the terminal's line, once it was cleared the last time."""
    return terminal.getvalue().rpartition("\x1b[2K")[2]


def test_bar_is_shown_when_it_takes_long_and_is_gone_afterwards(terminal):
    with redirect_stderr(terminal), shown("saving [b]model-1", patience_s=0.0):
        assert terminal.written.wait(SHOWN_IN_S)
    assert "saving [b]model-1" in terminal.getvalue()
    assert "saving" not in left_on(terminal)


def test_nothing_is_shown_when_it_is_quick(terminal):
    with redirect_stderr(terminal), shown("saving model-1", patience_s=3600.0):
        pass
    assert terminal.getvalue() == ""


def test_nothing_is_shown_where_there_is_no_terminal():
    stream = Terminal(is_terminal=False)
    before = threading.active_count()
    with redirect_stderr(stream), shown("saving model-1", patience_s=0.0):
        assert threading.active_count() == before
    assert stream.getvalue() == ""


def save_in_vain(terminal: Terminal) -> None:
    with redirect_stderr(terminal), shown("saving model-1", patience_s=0.0):
        assert terminal.written.wait(SHOWN_IN_S)
        raise ValueError("no space")


def test_bar_ends_with_an_error(terminal):
    with pytest.raises(ValueError, match="no space"):
        save_in_vain(terminal)
    assert "saving" not in left_on(terminal)
