"""A slow peer slows its senders; what breaks a connection ends everybody who waits."""

import threading

import pytest

from paramserve_core.errors import AbortedError, UnavailableError
from paramserve_core.transport.outbox import Outbox


def taken(outbox: Outbox, count: int) -> list[bytes]:
    return [next(outbox) for _ in range(count)]


def in_background(function) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_frames_leave_in_the_order_of_their_messages():
    outbox = Outbox()
    outbox.put_all([b"1", b"2"])
    outbox.put_all([b"3"])
    assert taken(outbox, 3) == [b"1", b"2", b"3"]


def test_after_the_second_a_frame_is_made_when_the_one_before_has_gone():
    outbox = Outbox()
    made = []

    def frames():
        for number in range(20):
            made.append(number)
            yield b"%d" % number

    sender = in_background(lambda: outbox.put_all(frames()))
    for number in range(20):
        assert taken(outbox, 1) == [b"%d" % number]
        assert len(made) <= max(number + 1, 3)
    outbox.close(drop=False)
    assert list(outbox) == []
    sender.join()


def test_a_sender_is_free_once_its_last_frame_was_made():
    outbox = Outbox()
    sender = in_background(lambda: outbox.put_all([b"1", b"2"]))
    assert taken(outbox, 2) == [b"1", b"2"]
    sender.join()
    outbox.put_all([b"3"])
    assert taken(outbox, 1) == [b"3"]


def test_a_sender_is_never_more_than_a_few_messages_ahead_of_its_peer():
    outbox = Outbox()
    sent = []

    def send():
        for number in range(20):
            outbox.put_all([b"%d" % number])
            sent.append(number)

    sender = in_background(send)
    for number in range(20):
        assert taken(outbox, 1) == [b"%d" % number]
        # The ones taken, and three in the outbox.
        assert len(sent) <= number + 1 + 3
    sender.join()


def test_messages_of_several_senders_do_not_mix():
    outbox = Outbox()
    senders = [
        in_background(lambda name=name: outbox.put_all([name] * 10)) for name in (b"a", b"b", b"c")
    ]
    frames = taken(outbox, 30)
    outbox.close(drop=False)
    assert list(outbox) == []
    for sender in senders:
        sender.join()
    assert [len(set(frames[i : i + 10])) for i in (0, 10, 20)] == [1, 1, 1]


def test_closing_ends_the_writer_at_once():
    outbox = Outbox()
    outbox.put_all([b"1"])
    outbox.close()
    assert list(outbox) == []


def test_closing_gently_lets_out_what_was_sent():
    outbox = Outbox()
    outbox.put_all([b"1", b"2"])
    outbox.close(drop=False)
    assert list(outbox) == [b"1", b"2"]


def test_a_writer_that_waits_is_ended():
    outbox = Outbox()
    frames: list[bytes] = []
    writer = in_background(lambda: frames.extend(outbox))
    outbox.close()
    writer.join()
    assert frames == []


def test_closing_gently_lets_out_what_is_still_to_be_made():
    outbox = Outbox()
    sender = in_background(lambda: outbox.put_all([b"1", b"2", b"3", b"4"]))
    assert taken(outbox, 3) == [b"1", b"2", b"3"]
    outbox.close(drop=False)
    assert list(outbox) == [b"4"]
    sender.join()


def refused_in_background(outbox):
    """A sender that will be refused, of whose ten frames three are gone; and with what it was."""
    caught: list[UnavailableError] = []

    def send():
        with pytest.raises(UnavailableError) as error:
            outbox.put_all([b"frame"] * 10)
        caught.append(error.value)

    sender = in_background(send)
    assert taken(outbox, 3) == [b"frame"] * 3
    return sender, caught


def test_a_writer_that_ends_amid_the_last_message_leaves_no_sender_waiting():
    outbox = Outbox()
    sender, caught = refused_in_background(outbox)
    outbox.close(drop=False)
    outbox.close()  # gRPC says that the call has ended, and asks for no more frames.
    sender.join()
    assert caught


def test_a_sender_in_the_middle_of_a_message_learns_what_broke():
    outbox = Outbox()
    sender, caught = refused_in_background(outbox)
    outbox.close(AbortedError(None, None, "the cable was cut"))
    sender.join()
    assert "the cable was cut" in caught[0].message
    assert list(outbox) == []


def test_a_sender_that_waits_for_room_learns_what_broke():
    outbox = Outbox()
    for _ in range(3):
        outbox.put_all([b"frame"])
    began = threading.Event()
    caught: list[UnavailableError] = []

    def send():
        began.set()
        with pytest.raises(UnavailableError) as error:
            outbox.put_all([b"frame"])
        caught.append(error.value)

    sender = in_background(send)
    began.wait()
    outbox.close(AbortedError(None, None, "the cable was cut"))
    sender.join()
    assert "the cable was cut" in caught[0].message


def test_no_frame_leaves_that_was_made_while_its_connection_was_closed():
    outbox = Outbox()

    def frames():
        yield from (b"1", b"2", b"3")
        outbox.close()  # As when its sender is interrupted, who may change what it is made of.
        yield b"half of the one, half of the other"

    sent = []

    def send():
        with pytest.raises(UnavailableError):
            outbox.put_all(frames())
        sent.append(True)

    sender = in_background(send)
    assert list(outbox) == [b"1", b"2", b"3"]
    sender.join()
    assert sent


def test_a_message_that_is_interrupted_in_its_middle_breaks_the_connection():
    outbox = Outbox()

    def frames():
        yield b"the first half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.put_all(frames())
    assert list(outbox) == []
    with pytest.raises(UnavailableError, match="broken"):
        outbox.put_all([b"another message"])


def test_a_sender_that_is_interrupted_while_its_frames_are_made_breaks_the_connection():
    outbox = Outbox()
    waited: list[bool] = []

    class Interrupted(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(True)
            raise KeyboardInterrupt

    outbox._changed = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        outbox.put_all([b"1", b"2", b"3"])
    assert waited
    assert list(outbox) == []
