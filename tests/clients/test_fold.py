"""The fold of events into a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clients.platform_server import failed, finished, opened, started, texts, used

from execution_platform.client import Fold
from execution_platform.v1 import chat_pb2, content_pb2

Block = content_pb2.ContentBlock
Delta = chat_pb2.BlockDelta

BLOCKS = [
    Block(text=content_pb2.TextBlock(text="t")),
    Block(thinking=content_pb2.ThinkingBlock()),
    Block(tool_call=content_pb2.ToolCallBlock(call_id="1", name="n")),
    Block(tool_result=content_pb2.ToolResultBlock(call_id="1")),
    Block(media=content_pb2.MediaBlock(mime_type="audio/wav")),
    Block(refusal=content_pb2.RefusalBlock()),
    Block(redacted_thinking=content_pb2.RedactedThinkingBlock()),
    Block(opaque=content_pb2.OpaqueBlock(type="x")),
]

PIECE = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
BYTES = st.binary(max_size=5)
DELTAS = st.one_of(
    st.builds(lambda text: Delta(index=0, text=text), PIECE),
    st.builds(lambda text: Delta(index=1, thinking=text), PIECE),
    st.builds(lambda text: Delta(index=2, arguments_json=text), PIECE),
    st.builds(lambda text: Delta(index=3, structured_content_json=text), PIECE),
    st.builds(lambda data, said: Delta(index=4, media=chat_pb2.MediaDelta(data=data, transcript=said)), BYTES, PIECE),
    st.builds(lambda text: Delta(index=5, refusal=text), PIECE),
    st.builds(lambda data: Delta(index=6, redacted_thinking=data), BYTES),
    st.builds(lambda text: Delta(index=7, opaque_json=text), PIECE),
    st.builds(lambda data: Delta(index=0, state=content_pb2.OpaqueState(kind="s", data=data)), BYTES),
    st.builds(lambda data: Delta(index=0, state_data=data), BYTES),
    st.builds(lambda text: Delta(index=0, citation=content_pb2.Citation(title=text)), PIECE),
)


def events(deltas: list[Delta]) -> list[chat_pb2.ChatEvent]:
    """Return a whole answer with these deltas; the text block has a state from the start."""
    blocks = [Block.FromString(block.SerializeToString()) for block in BLOCKS]
    blocks[0].states.add(kind="first")
    return [started(), *map(opened, blocks), *(chat_pb2.ChatEvent(block_delta=each) for each in deltas), finished()]


@given(st.lists(DELTAS, max_size=30))
def test_a_block_is_its_start_with_its_deltas_appended(deltas: list[Delta]) -> None:
    """Every kind of delta is appended to its field, in order, whatever comes between."""
    fold = Fold()
    fold.add_all(events(deltas))
    content = fold.response.message.content
    assert content[0].text.text == fold.text == "t" + "".join(each.text for each in deltas)
    assert content[1].thinking.text == "".join(each.thinking for each in deltas)
    assert content[2].tool_call.arguments_json == "".join(each.arguments_json for each in deltas)
    assert content[3].tool_result.structured_content_json == "".join(each.structured_content_json for each in deltas)
    assert content[4].media.data == b"".join(each.media.data for each in deltas)
    assert content[4].media.transcript == "".join(each.media.transcript for each in deltas)
    assert content[5].refusal.text == "".join(each.refusal for each in deltas)
    assert content[6].redacted_thinking.data == b"".join(each.redacted_thinking for each in deltas)
    assert content[7].opaque.json == "".join(each.opaque_json for each in deltas)
    states = [b""]
    for each in deltas:
        if each.HasField("state"):
            states.append(each.state.data)
        states[-1] += each.state_data
    assert [state.data for state in content[0].states] == states
    assert [each.title for each in content[0].citations] == [e.citation.title for e in deltas if e.HasField("citation")]


@given(st.lists(DELTAS, max_size=30), st.data())
def test_reading_in_between_changes_nothing(deltas: list[Delta], data: st.DataObject) -> None:
    """The answer is the same whether or not it is looked at while it grows."""
    watched, unwatched = Fold(), Fold()
    for event in events(deltas):
        watched.add(event)
        unwatched.add(event)
        if data.draw(st.booleans()):
            assert watched.response.message.content[:1] == watched.response.message.content[:1]
    assert watched.response == unwatched.response


def test_a_text_argument_that_is_empty_is_there() -> None:
    """A tool that takes free text is told from one that takes JSON, even when the text is empty."""
    fold = Fold()
    fold.add(opened(Block(tool_call=content_pb2.ToolCallBlock(call_id="1", name="n"))))
    fold.add(chat_pb2.ChatEvent(block_delta=Delta(arguments_text="")))
    assert fold.response.message.content[0].tool_call.HasField("arguments_text")


def test_a_delta_of_an_unknown_block_is_an_error() -> None:
    """A delta for a block that was never started raises IndexError."""
    with pytest.raises(IndexError):
        Fold().add(texts("x")[0])


def test_all_that_is_beside_the_message_is_kept() -> None:
    """Notices, route changes, log probabilities and the provider's events are in the response, usage beside it."""
    token = content_pb2.TokenLogprob(token="t", logprob=-1.0)
    told = [
        started(),
        opened(Block(text=content_pb2.TextBlock())),
        chat_pb2.ChatEvent(block_delta=Delta(text="t", logprobs=[token])),
        chat_pb2.ChatEvent(block_delta=Delta(text="t", logprobs=[token])),
        chat_pb2.ChatEvent(block_stopped=chat_pb2.BlockStopped(provider_metadata_json="{}")),
        chat_pb2.ChatEvent(notice=chat_pb2.Notice(message="note")),
        chat_pb2.ChatEvent(route_changed=chat_pb2.RouteChanged(reason="why")),
        chat_pb2.ChatEvent(heartbeat=chat_pb2.Heartbeat()),
        chat_pb2.ChatEvent(provider_event=chat_pb2.ProviderEvent(raw_json="{", continues=True)),
        chat_pb2.ChatEvent(provider_event=chat_pb2.ProviderEvent(raw_json="}")),
        chat_pb2.ChatEvent(provider_event=chat_pb2.ProviderEvent(raw_json="2")),
        chat_pb2.ChatEvent(usage_updated=chat_pb2.UsageUpdated(usage=used(1))),
    ]
    fold = Fold()
    fold.add_all(told)
    assert (fold.done, fold.usage) == (False, used(1))
    response = fold.response
    assert [(each.index, len(each.tokens)) for each in response.logprobs] == [(0, 2)]
    assert [(each.raw_json, each.continues) for each in response.provider_events] == [("{}", False), ("2", False)]
    assert response.message.content[0].provider_metadata_json == "{}"
    assert (response.notices[0].message, response.route_changes[0].reason) == ("note", "why")
    fold.add(finished())
    assert (fold.done, fold.usage) == (True, used())


def test_void_blocks_are_gone() -> None:
    """After a RESTART, and after a second one, message and log probabilities tell the new blocks alone, whole."""
    token = content_pb2.TokenLogprob(token="t", logprob=-1.0)
    fold = Fold()
    fold.add(started())
    for restart, pieces in enumerate((("ol", "d"), ("old", "er"), ("ne", "w"))):
        block = Block(index=2 * restart, thinking=content_pb2.ThinkingBlock(text="hm"))
        fold.add_all([opened(block), opened(Block(index=2 * restart + 1, text=content_pb2.TextBlock()))])
        for piece in pieces:
            delta = Delta(index=2 * restart + 1, text=piece, logprobs=[token])
            fold.add(chat_pb2.ChatEvent(block_delta=delta))
        void = [0, 1] if restart == 0 else [2, 3]
        if restart < 2:
            fold.add(chat_pb2.ChatEvent(route_changed=chat_pb2.RouteChanged(void_blocks=void)))
            assert (fold.text, len(fold.response.message.content)) == ("", 0)
    assert fold.text == "new"
    assert [block.index for block in fold.response.message.content] == [4, 5]
    assert [(each.index, len(each.tokens)) for each in fold.response.logprobs] == [(5, 2)]
    assert len(fold.response.route_changes) == 2


def test_a_failure_ends_the_fold() -> None:
    """After `failed` the fold is done and tells the usage of the failure."""
    fold = Fold()
    fold.add_all([started(), failed(chat_pb2.Failed().error)])
    assert fold.done
    assert fold.failed is not None
    assert fold.usage == used(2)
