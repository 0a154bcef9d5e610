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


def test_a_sender_is_never_more_than_a_few_frames_ahead_of_its_peer():
    outbox = Outbox()
    made = []

    def frames():
        for number in range(20):
            made.append(number)
            yield b"%d" % number

    sender = in_background(lambda: outbox.put_all(frames()))
    for number in range(20):
        assert taken(outbox, 1) == [b"%d" % number]
        # The ones taken, three in the outbox, and one that waits for room.
        assert len(made) <= number + 1 + 3 + 1
    sender.join()


def test_messages_of_several_senders_do_not_mix():
    outbox = Outbox()
    senders = [
        in_background(lambda name=name: outbox.put_all([name] * 10)) for name in (b"a", b"b", b"c")
    ]
    frames = taken(outbox, 30)
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


def test_a_sender_that_waits_for_room_learns_what_broke():
    outbox = Outbox()
    began = threading.Event()
    caught: list[UnavailableError] = []

    def frames():
        for _ in range(10):
            began.set()
            yield b"frame"

    def send():
        with pytest.raises(UnavailableError) as error:
            outbox.put_all(frames())
        caught.append(error.value)

    sender = in_background(send)
    began.wait()
    outbox.close(AbortedError(None, None, "the cable was cut"))
    sender.join()
    assert "the cable was cut" in caught[0].message


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
