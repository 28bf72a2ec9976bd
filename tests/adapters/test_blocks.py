"""The writer of answers numbers blocks, joins split characters, and keeps every event below 1 MiB."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.testing import Answer, check_stream
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2

Block = content_pb2.ContentBlock
MIB = 1 << 20
HALF = "\ufffd"


def text_block() -> Block:
    return Block(text=content_pb2.TextBlock())


def read(writer: AnswerWriter) -> Answer:
    """Put the writer's events between a start and an end, and read them by the conformance kit."""
    started = chat_pb2.ChatEvent(started=chat_pb2.Started())
    finished = chat_pb2.ChatEvent(finished=chat_pb2.Finished(reason=chat_pb2.FINISH_REASON_STOP))
    return check_stream([[started, *writer.take(), finished]], family="demo")


def told_verbatim(writer: AnswerWriter) -> list[chat_pb2.ProviderEvent]:
    return [event.provider_event for event in writer.take() if event.HasField("provider_event")]


def test_an_answer_begins_with_started_and_notices() -> None:
    """What the provider said before its answer began comes after started and the notices, and not at all without."""
    writer = AnswerWriter("demo")
    writer.verbatim("demo", b"{}", "ping")
    assert writer.take() == []
    writer.begin(chat_pb2.Started(request_id="r"), [chat_pb2.Notice(message="n")])
    writer.verbatim("demo", b"[]", "pong")
    events = writer.take()
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["started", "notice", "provider_event", "provider_event"]
    assert [event.provider_event.type for event in events[2:]] == ["ping", "pong"]


@pytest.mark.parametrize("text", ["", "{}", "x" * 2_000_000, "\U0001f600" * 1_000_000])
def test_what_the_provider_said_comes_verbatim_in_pieces(text: str) -> None:
    """The pieces of an event join to it, each below 1 MiB, all but the last saying that it goes on."""
    writer = AnswerWriter("demo")
    writer.begin(chat_pb2.Started())
    writer.verbatim("demo", text.encode(), "kind")
    pieces = told_verbatim(writer)
    assert "".join(piece.raw_json for piece in pieces) == text
    assert [piece.continues for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert {(piece.provider, piece.type) for piece in pieces} == {("demo", "kind")}
    assert max(piece.ByteSize() for piece in pieces) < MIB


def test_blocks_are_numbered_and_named() -> None:
    """Blocks get rising indexes and the family, may interleave, and are stopped once."""
    writer = AnswerWriter("demo")
    first, second = writer.open(text_block()), writer.open(text_block())
    writer.text(second, "b")
    writer.text(first, "a")
    assert (first, second, writer.block_count) == (0, 1, 2)
    assert writer.is_open(first)
    writer.stop(first, '{"k":1}')
    assert not writer.is_open(first)
    writer.stop_all()
    answer = read(writer)
    assert [block.text.text for block in answer.blocks] == ["a", "b"]
    assert answer.blocks[0].provider_metadata_json == '{"k":1}'


def test_events_are_taken_once() -> None:
    """Taking the events forgets them; events that are not about blocks keep their place."""
    writer = AnswerWriter("demo")
    notice = chat_pb2.ChatEvent(notice=chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PROVIDER_WARNING))
    writer.emit(notice)
    writer.whole(text_block())
    writer.emit_all([notice, notice])
    kinds = [event.WhichOneof("event") for event in writer.take()]
    assert kinds == ["notice", "block_started", "block_stopped", "notice", "notice"]
    assert writer.take() == []


def test_every_kind_of_delta_is_joined() -> None:
    """What is appended to each kind of block is in the block at the end; empty pieces make no event."""
    writer = AnswerWriter("demo")
    thinking = writer.open(Block(thinking=content_pb2.ThinkingBlock()))
    writer.thinking(thinking, "hm")
    writer.state(thinking, "signature", b"s1")
    refusal = writer.open(Block(refusal=content_pb2.RefusalBlock()))
    writer.refusal(refusal, "no")
    call = writer.open(Block(tool_call=content_pb2.ToolCallBlock(name="f", call_id="c")))
    writer.arguments(call, '{"a":')
    writer.arguments(call, "")
    writer.arguments(call, "1}")
    free = writer.open(Block(tool_call=content_pb2.ToolCallBlock(name="g", call_id="d")))
    writer.arguments_text(free, "free")
    result = writer.open(Block(tool_result=content_pb2.ToolResultBlock()))
    writer.structured_content(result, "[1]")
    media = writer.open(Block(media=content_pb2.MediaBlock(data=b"")))
    writer.media(media, b"\x00\x01", "words")
    opaque = writer.open(Block(opaque=content_pb2.OpaqueBlock(type="t")))
    writer.opaque(opaque, "{}")
    text = writer.open(text_block())
    writer.citation(text, content_pb2.Citation(uri="u"))
    writer.stop_all()
    answer = read(writer)
    assert answer.blocks[thinking].thinking.text == "hm"
    assert answer.blocks[thinking].states[0].data == b"s1"
    assert answer.blocks[refusal].refusal.text == "no"
    assert answer.blocks[call].tool_call.arguments_json == '{"a":1}'
    assert answer.blocks[free].tool_call.arguments_text == "free"
    assert answer.blocks[result].tool_result.structured_content_json == "[1]"
    assert (answer.blocks[media].media.data, answer.blocks[media].media.transcript) == (b"\x00\x01", "words")
    assert answer.blocks[opaque].opaque.json == "{}"
    assert answer.blocks[text].citations[0].uri == "u"


@given(st.text(max_size=30), st.lists(st.integers(0, 100), max_size=8))
def test_text_survives_cuts_through_its_characters(text: str, places: list[int]) -> None:
    """Text whose UTF-16 form is cut anywhere, as JSON escapes are, comes out whole and without a notice."""
    units = text.encode("utf-16-le")
    cuts = sorted({2 * (place % (len(units) // 2 + 1)) for place in places})
    writer = AnswerWriter("demo")
    index = writer.open(text_block())
    for start, end in zip([0, *cuts], [*cuts, len(units)], strict=True):
        writer.text(index, units[start:end].decode("utf-16-le", "surrogatepass"))
    writer.stop(index)
    answer = read(writer)
    assert answer.text() == text
    assert answer.notices == []


@given(st.lists(st.text(st.characters(categories=["L", "Cs"]), max_size=4), max_size=6))
def test_any_surrogates_are_carried(parts: list[str]) -> None:
    """Whatever halves come, pairs are joined and each lonely half becomes U+FFFD, which a notice tells."""
    writer = AnswerWriter("demo")
    index = writer.open(text_block())
    for part in parts:
        writer.text(index, part)
    writer.stop(index)
    answer = read(writer)
    expected = "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    lonely = [character for character in expected if "\ud800" <= character <= "\udfff"]
    assert answer.text() == "".join(HALF if character in lonely else character for character in expected)
    assert bool(answer.notices) == bool(lonely)


def test_a_lonely_half_is_told_beside_a_real_replacement_character() -> None:
    """A lonely half brings its notice also in a text that holds U+FFFD of its own."""
    writer = AnswerWriter("demo")
    index = writer.open(text_block())
    writer.text(index, f"{HALF}\udc00")
    writer.stop(index)
    answer = read(writer)
    assert answer.text() == HALF * 2
    assert len(answer.notices) == 1


def test_halves_of_open_blocks_do_not_mix() -> None:
    """Halves wait for the other half of their own block and field."""
    writer = AnswerWriter("demo")
    one, two = writer.open(text_block()), writer.open(Block(media=content_pb2.MediaBlock(data=b"")))
    writer.text(one, "\ud83d")
    writer.media(two, transcript="\ud83c")
    writer.text(one, "\ude00\ud83d")
    writer.stop_all()
    answer = read(writer)
    assert answer.blocks[one].text.text == f"😀{HALF}"
    assert answer.blocks[two].media.transcript == HALF
    assert [notice.code for notice in answer.notices] == [chat_pb2.NOTICE_CODE_PROVIDER_WARNING] * 2


@pytest.mark.parametrize("character", ["a", "é", "漢", "😀"])
def test_large_pieces_come_in_small_events(character: str) -> None:
    """Pieces of megabytes come as several events below 1 MiB, without splitting a character."""
    text = character * 1_200_001
    writer = AnswerWriter("demo")
    index = writer.open(text_block())
    writer.text(index, "\ud83d")
    writer.text(index, "\ude00" + text)
    media = writer.open(Block(media=content_pb2.MediaBlock(data=b"")))
    writer.media(media, b"\x00" * 3_000_001)
    writer.state(index, "s", b"\x01" * 1_500_000)
    writer.stop_all()
    answer = read(writer)
    assert answer.blocks[index].text.text == f"😀{text}"
    assert len(answer.blocks[media].media.data) == 3_000_001
    assert len(answer.blocks[index].states[0].data) == 1_500_000


BIG = "é" * 700_000
BYTES = b"\x00" * 2_000_000
LARGE_BLOCKS = {
    "text": Block(text=content_pb2.TextBlock(text=BIG)),
    "thinking": Block(thinking=content_pb2.ThinkingBlock(text=BIG, is_summary=True)),
    "refusal": Block(refusal=content_pb2.RefusalBlock(text=BIG)),
    "opaque": Block(opaque=content_pb2.OpaqueBlock(type="t", json=BIG)),
    "arguments": Block(tool_call=content_pb2.ToolCallBlock(name="f", call_id="c", arguments_json=BIG)),
    "free arguments": Block(tool_call=content_pb2.ToolCallBlock(name="f", call_id="c", arguments_text=BIG)),
    "result": Block(tool_result=content_pb2.ToolResultBlock(call_id="c", structured_content_json=BIG)),
    "media": Block(media=content_pb2.MediaBlock(mime_type="m", data=BYTES, transcript=BIG)),
    "linked media": Block(media=content_pb2.MediaBlock(uri="u", transcript=BIG)),
    "redacted": Block(redacted_thinking=content_pb2.RedactedThinkingBlock(data=BYTES)),
    "state": Block(text=content_pb2.TextBlock(text="a"), states=[content_pb2.OpaqueState(kind="s", data=BYTES)]),
    "many states": Block(
        text=content_pb2.TextBlock(text="漢" * 200_000),
        states=[content_pb2.OpaqueState(kind=str(number), data=b"\x01" * 200_000) for number in range(5)],
    ),
    "citations": Block(
        text=content_pb2.TextBlock(text="a"),
        citations=[content_pb2.Citation(uri=str(number), raw_json=f'"{"x" * 200_000}"') for number in range(6)],
    ),
}


@pytest.mark.parametrize("name", LARGE_BLOCKS)
def test_a_large_whole_block_comes_in_small_events(name: str) -> None:
    """A whole block that is too large for one event comes as a start and deltas that bring all of it back."""
    writer = AnswerWriter("demo")
    given_block = Block()
    given_block.CopyFrom(LARGE_BLOCKS[name])
    writer.whole(given_block)
    events = writer.take()
    assert len(events) > 3
    assert max(event.ByteSize() for event in events) < MIB
    writer.emit_all(events)
    (block,) = read(writer).blocks
    block.family = ""
    assert block == LARGE_BLOCKS[name]


def test_a_block_of_no_kind_is_not_cut() -> None:
    """A block without content that is too large stays as it is: there is nothing that deltas could bring back."""
    writer = AnswerWriter("demo")
    writer.open(Block(provider_metadata_json=f'{{"k":"{"x" * 950_000}"}}'))
    assert len(writer.take()) == 1


def test_many_log_probabilities_come_in_small_events() -> None:
    """The log probabilities of a whole long answer come in several events below 1 MiB, in order."""
    top = [content_pb2.TokenLogprob(token=f"token {number}", logprob=-1.0) for number in range(20)]
    tokens = [content_pb2.TokenLogprob(token=str(number), logprob=-0.5, top=top) for number in range(4000)]
    writer = AnswerWriter("demo")
    index = writer.open(text_block())
    writer.text(index, "the answer", tokens)
    writer.text(index, "", tokens[:1])
    writer.stop(index)
    answer = read(writer)
    assert answer.text() == "the answer"
    assert answer.logprobs[index] == [*tokens, tokens[0]]


@pytest.mark.parametrize("at", ["start", "stop"])
def test_large_metadata_of_a_block_comes_in_pieces(at: str) -> None:
    """Metadata above 1 MiB, told at a block's start or at its stop, joins to itself from events below 1 MiB."""
    metadata = f'{{"k":"{"x" * 3_000_000}"}}'
    writer = AnswerWriter("demo")
    index = writer.open(Block(text=content_pb2.TextBlock(), provider_metadata_json=metadata if at == "start" else ""))
    writer.stop(index, metadata if at == "stop" else None)
    assert read(writer).blocks[0].provider_metadata_json == metadata


def test_metadata_at_the_stop_replaces_large_metadata_of_the_start() -> None:
    """What is told at a block's stop holds, however large what was told at its start."""
    writer = AnswerWriter("demo")
    index = writer.open(Block(text=content_pb2.TextBlock(), provider_metadata_json=f'{{"k":"{"x" * 300_000}"}}'))
    writer.stop(index, '{"k":1}')
    assert read(writer).blocks[0].provider_metadata_json == '{"k":1}'


def test_large_metadata_of_the_answer_comes_in_pieces_before_finished() -> None:
    """The end's metadata above 1 MiB joins to itself, by the kit as by the client's fold."""
    metadata = f'{{"k":"{"x" * 3_000_000}"}}'
    writer = AnswerWriter("demo")
    writer.begin(chat_pb2.Started())
    finished = chat_pb2.Finished(reason=chat_pb2.FINISH_REASON_STOP, provider_metadata_json=metadata)
    writer.emit_all([chat_pb2.ChatEvent(finished=finished)])
    events = writer.take()
    fold = Fold()
    fold.add_all(events)
    assert fold.response.finished.provider_metadata_json == metadata
    answer = check_stream([events])
    assert answer.finished is not None
    assert answer.finished.provider_metadata_json == metadata


def test_large_metadata_of_a_block_is_folded() -> None:
    """The client's fold joins a block's metadata as the kit does."""
    metadata = f'{{"k":"{"x" * 3_000_000}"}}'
    writer = AnswerWriter("demo")
    writer.whole(Block(text=content_pb2.TextBlock(text="a"), provider_metadata_json=metadata))
    fold = Fold()
    fold.add_all(writer.take())
    assert fold.response.message.content[0].provider_metadata_json == metadata
