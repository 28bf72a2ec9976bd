"""What a stream must keep to, seen from the caller's side."""

import pytest
from tests.clients.platform_server import failed, finished, opened, spoken, started, texts

from execution_platform.client.errors import CallCancelledError, ProtocolViolationError
from execution_platform.client.reader import EventReader, checked_answer, text_in, thinking_in
from execution_platform.v1 import chat_pb2, content_pb2, error_pb2


def numbered(*events: chat_pb2.ChatEvent, first: int = 1) -> chat_pb2.ChatResponse:
    """Return a message of these events, numbered."""
    for number, event in enumerate(events, first):
        event.sequence = number
    return chat_pb2.ChatResponse(events=events)


def read(reader: EventReader, response: chat_pb2.ChatResponse) -> list[chat_pb2.ChatEvent]:
    """Feed a message and take all its events."""
    reader.feed(response)
    return list(iter(reader.next_event, None))


def test_the_fold_is_as_far_as_the_events_handed_out() -> None:
    """Events that came in the same message, but were not handed out yet, are not in the fold."""
    reader = EventReader()
    reader.feed(numbered(*spoken("a", "b")))
    for _ in range(3):
        reader.next_event()
    assert reader.fold.text == "a"
    with pytest.raises(CallCancelledError):
        reader.answer()


def test_an_event_of_a_newer_server_is_passed_over() -> None:
    """An event without a known kind counts in the sequence and is not handed out."""
    unknown = chat_pb2.ChatEvent.FromString(b"\x08\x02\xba\x06\x01x")  # sequence 2, and field 103
    reader = EventReader()
    reader.feed(numbered(started()))
    reader.feed(chat_pb2.ChatResponse(events=[unknown]))
    reader.feed(numbered(finished(), first=3))
    assert [event.sequence for event in iter(reader.next_event, None)] == [1, 3]
    reader.end()


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_each_number_follows_the_one_before(sequence: int) -> None:
    """A number that is missing, comes again or was not set is a violation."""
    reader = EventReader()
    read(reader, numbered(started()))
    with pytest.raises(ProtocolViolationError, match=f"event {sequence} follows event 1"):
        read(reader, numbered(finished(), first=sequence))


def test_nothing_follows_the_terminal_event() -> None:
    """An event after `finished` is a violation."""
    reader = EventReader()
    with pytest.raises(ProtocolViolationError, match="follows the terminal event"):
        read(reader, numbered(started(), finished(), *texts("x")))


def test_a_delta_needs_its_block() -> None:
    """A delta for a block that was not started is a violation, with what came before as its partial answer."""
    reader = EventReader()
    with pytest.raises(ProtocolViolationError, match="event 2 names a block") as caught:
        read(reader, numbered(started(), *texts("x", index=4)))
    assert caught.value.partial is reader.fold


def test_status_ok_needs_finished() -> None:
    """The end with status OK is a violation before any terminal event, and after `failed`."""
    reader = EventReader()
    with pytest.raises(ProtocolViolationError, match="after event 0, without `finished`"):
        reader.end()
    read(reader, numbered(started(), failed(error_pb2.ErrorDetail())))
    with pytest.raises(ProtocolViolationError, match="after `failed`"):
        reader.end()
    with pytest.raises(ProtocolViolationError):
        checked_answer(chat_pb2.CompleteChatResponse())


def test_text_and_thinking_are_told_apart() -> None:
    """Each is found in deltas and in blocks that were given whole, and in nothing else."""
    thought = opened(content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(text="hm")))
    assert (text_in(thought), thinking_in(thought)) == ("", "hm")
    piece = chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(thinking="hm"))
    assert (text_in(piece), thinking_in(piece)) == ("", "hm")
    assert [text_in(event) for event in (*texts("a"), finished(), started())] == ["a", "", ""]
