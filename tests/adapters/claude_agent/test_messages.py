"""Messages of the CLI that are made by hand: what a run may say beyond the samples."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.claude_agent.telling import (
    SESSION,
    answer_of,
    assistant,
    figures,
    lines,
    message,
    result,
    text,
    translation,
)

from execution_platform.adapters.claude_agent.lines import LineDecoder
from execution_platform.adapters.claude_agent.stream import FAMILY
from execution_platform.adapters.errors import (
    AdapterError,
    BillingError,
    CredentialsError,
    ForbiddenError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    RequestTooLargeError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import Answer, check_stream
from execution_platform.v1 import chat_pb2, usage_pb2

SONNET = "claude-sonnet-5"


def event(kind: str, parent: str | None = None, **members: Any) -> dict[str, Any]:
    """Return a stream event."""
    return message("stream_event", event={"type": kind, **members}, parent_tool_use_id=parent)


def start(number: int, model: str = SONNET, parent: str | None = None, tokens: int = 5) -> dict[str, Any]:
    """Return the beginning of a model call."""
    usage = {"input_tokens": tokens, "output_tokens": 1}
    return event(
        "message_start", parent, message={"id": f"msg_{number}", "model": model, "content": [], "usage": usage}
    )


def delta(index: int, parent: str | None = None, **piece: Any) -> dict[str, Any]:
    """Return a piece of a block."""
    return event("content_block_delta", parent, index=index, delta=piece)


def begin(index: int, parent: str | None = None, **block: Any) -> dict[str, Any]:
    """Return the beginning of a block."""
    return event("content_block_start", parent, index=index, content_block=block)


def quantities(usage: usage_pb2.Usage | None) -> dict[tuple[str, str], int]:
    """Return quantities by kind and model."""
    assert usage is not None
    named = [(usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_"), item) for item in usage.items]
    return {(kind, item.model or item.tool): item.quantity for kind, item in named}


def test_what_a_cut_run_used_is_told() -> None:
    """A run that breaks off has told what its calls used so far: added up over calls, cumulative within each."""
    call = [begin(0, type="text", text=""), delta(0, type="text_delta", text="a")]
    ended = event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 20})
    data = lines(start(1), *call, event("content_block_stop", index=0), ended, start(2, tokens=7), *call)
    answer = answer_of(data)
    assert isinstance(answer.error, StreamBrokenError)
    assert quantities(answer.usage) == {("INPUT", ""): 12, ("OUTPUT", ""): 21}


def test_models_are_told_apart() -> None:
    """Tokens of another model than the run's own name it, and each model's dollars are a line of the cost."""
    models = {SONNET: figures(0.5), "claude-haiku-5-5": figures(0.25, 3, thinkingTokens=1, webSearchRequests=2)}
    finished = answer_of(lines(assistant(text("a")), result(models))).finished
    assert finished is not None
    assert quantities(finished.usage) == {
        ("INPUT", ""): 10,
        ("OUTPUT", ""): 10,
        ("INPUT", "claude-haiku-5-5"): 3,
        ("OUTPUT", "claude-haiku-5-5"): 2,
        ("REASONING", "claude-haiku-5-5"): 1,
        ("SERVER_TOOL_CALL", "claude-haiku-5-5"): 2,
    }
    lines_told = [(line.description, line.amount.nanos) for line in finished.cost.lines]
    assert lines_told == [(SONNET, 500_000_000), ("claude-haiku-5-5", 250_000_000)]
    assert finished.cost.status == usage_pb2.COST_STATUS_ESTIMATED


def test_parts_that_do_not_add_up_give_way_to_the_whole() -> None:
    """Where the models' dollars are not the total of the run, the total is the cost."""
    finished = answer_of(lines(assistant(text("a")), result({SONNET: figures(0.5)}, total_cost_usd=0.75))).finished
    assert finished is not None
    assert [(line.description, line.amount.nanos) for line in finished.cost.lines] == [("", 750_000_000)]


def test_a_dollar_is_read_from_its_text() -> None:
    """An amount is what the CLI wrote, rounded once to a billionth, half to even."""
    body = lines(assistant(text("a")), result({SONNET: figures(0.0)}))
    exact = body.replace(b'"costUSD": 0.0', b'"costUSD": 12345678.1234567885').replace(
        b'"total_cost_usd": 0.0', b'"total_cost_usd": 12345678.1234567885'
    )
    finished = answer_of(exact).finished
    assert finished is not None
    assert [line.amount.nanos for line in finished.cost.lines] == [12_345_678_123_456_788]


def test_a_larger_context_is_the_same_model() -> None:
    """The CLI's mark for a larger context makes no other model of it."""
    finished = answer_of(lines(assistant(text("a")), result({f"{SONNET}[1m]": figures(0.5)}))).finished
    assert finished is not None
    assert set(quantities(finished.usage)) == {("INPUT", ""), ("OUTPUT", "")}


def test_another_model_that_goes_on_is_told() -> None:
    """Where the CLI goes on with another model, its name is told at that place and at the end."""
    sonnet, opus = assistant(text("a")), assistant(text("b"), number=2, model="claude-opus-5")
    data = lines(
        start(1), sonnet, start(2, "claude-opus-5"), opus, result({SONNET: figures(0.1), "claude-opus-5": figures(0.2)})
    )
    told = translation()
    events = told.feed(data) + told.end()
    [changed] = [each.route_changed for each in events if each.HasField("route_changed")]
    assert (changed.route.served_model, changed.origin) == ("claude-opus-5", chat_pb2.ROUTE_CHANGE_ORIGIN_PROVIDER)
    finished = events[-1].finished
    assert finished.route.served_model == "claude-opus-5"
    assert ("INPUT", SONNET) in quantities(finished.usage)


def test_sub_agents_that_stream_do_not_mix_with_the_run() -> None:
    """Pieces of a run and of its sub-agents may alternate; each goes to its own block."""
    agent = "toolu_1"
    data = lines(
        start(1),
        begin(0, type="text", text=""),
        start(2, parent=agent),
        begin(0, agent, type="text", text=""),
        delta(0, type="text_delta", text="out"),
        delta(0, agent, type="text_delta", text="in"),
        delta(0, type="text_delta", text="er"),
        delta(0, agent, type="text_delta", text="ner"),
        event("content_block_stop", agent, index=0),
        event("content_block_stop", index=0),
        result({SONNET: figures(0.1)}, result="outer"),
    )
    blocks = answer_of(data).blocks
    assert [block.text.text for block in blocks] == ["outer", "inner"]
    assert [json.loads(block.provider_metadata_json or "{}") for block in blocks] == [{}, {"parent_tool_use_id": agent}]


def test_a_message_without_a_stream_reaches_blocks() -> None:
    """What comes complete only, also with an identifier that streamed at another time, is told whole."""
    call = {"type": "tool_use", "id": "toolu_9", "name": "Bash", "input": {"z": 1.0, "a": 2}}
    data = lines(assistant(text("one"), call), assistant(text("two"), number=1), result())
    told = answer_of(data).blocks
    assert [block.WhichOneof("content") for block in told] == ["text", "tool_call", "text"]
    assert told[1].tool_call.arguments_json == '{"z": 1.0, "a": 2}'


def test_unknown_blocks_and_messages_are_kept() -> None:
    """A block of a kind that nobody knows is opaque, a message of such a kind is in the metadata, both verbatim."""
    answer = answer_of(lines(assistant({"type": "hologram", "x": 1}), message("telepathy", says=[1]), result()))
    [block] = answer.blocks
    assert (block.opaque.type, block.opaque.json) == ("hologram", '{"type": "hologram", "x": 1}')
    assert answer.finished is not None
    assert '"says": [1]' in answer.finished.provider_metadata_json


@pytest.mark.parametrize("kind", ["compact_boundary", "hook_response", "task_notification", "memory_saved"])
def test_what_a_run_does_beside_its_answer_is_kept(kind: str) -> None:
    """Compaction, hooks and tasks are in the metadata of the end."""
    answer = answer_of(lines(assistant(text("a")), message("system", subtype=kind, told=f"of {kind}"), result()))
    assert answer.finished is not None
    assert f"of {kind}" in answer.finished.provider_metadata_json


def test_too_much_beside_the_answer_is_left_out_with_a_notice() -> None:
    """What is kept has an end; a notice says once that there was more."""
    more = [message("system", subtype="hook_response", told="x" * 30_000) for _ in range(9)]
    answer = answer_of(lines(assistant(text("a")), *more, result()))
    assert answer.finished is not None
    assert len(answer.finished.provider_metadata_json) < 110_000
    assert [notice.message for notice in answer.notices] == ["the run said more beside its answer than is kept"]


def test_limits_with_extra_usage_are_two() -> None:
    """The window and the paid extra usage are told apart; while requests go through a percent is always left."""
    info = {
        "status": "allowed_warning",
        "rateLimitType": "seven_day",
        "resetsAt": 1_800_000_000,
        "utilization": 0.995,
        "overageStatus": "rejected",
        "overageDisabledReason": "out_of_credits",
    }
    answer = answer_of(lines(assistant(text("a")), message("rate_limit_event", rate_limit_info=info), result()))
    assert answer.finished is not None
    week, extra = answer.finished.rate_limits
    assert (week.name, week.status, week.limit, week.remaining) == ("seven_day", "allowed_warning", 100, 1)
    assert (extra.name, extra.status) == ("overage", "rejected")
    assert "out_of_credits" in answer.finished.provider_metadata_json


FAILURES = [
    ({"api_error_status": 401}, CredentialsError, 401),
    ({"api_error_status": 403}, ForbiddenError, 403),
    ({"api_error_status": 413}, RequestTooLargeError, 413),
    ({"api_error_status": 429}, RateLimitedError, 429),
    ({"api_error_status": 500}, UnavailableError, 500),
    ({"api_error_status": 529}, OverloadedError, 529),
    ({"api_error_type": "overloaded_error"}, OverloadedError, 0),
    ({"api_error_status": 400, "result": "Your credit balance is too low"}, BillingError, 400),
    ({"api_error_status": 400, "result": "tools.0: wrong"}, InvalidRequestError, 400),
    ({"subtype": "error_during_execution", "errors": ["it broke"]}, UnavailableError, 0),
    ({}, UnavailableError, 0),
]


@pytest.mark.parametrize(("members", "wanted", "status"), FAILURES)
def test_failures_have_the_error_of_their_status(
    members: dict[str, Any], wanted: type[AdapterError], status: int
) -> None:
    """A result that tells a failure becomes the error that its status or type stands for."""
    error = answer_of(lines(result(is_error=True, **members))).error
    assert type(error) is wanted
    assert error.provider_status == status


WORDS = {
    "authentication_failed": CredentialsError,
    "billing_error": BillingError,
    "rate_limit": RateLimitedError,
    "overloaded": OverloadedError,
    "invalid_request": InvalidRequestError,
    "server_error": UnavailableError,
    "unknown": UnavailableError,
    "a word of tomorrow": UnavailableError,
}


@pytest.mark.parametrize("word", WORDS)
def test_failures_without_a_status_have_the_error_of_their_word(word: str) -> None:
    """Where the CLI knows no status, its own word for the failure decides."""
    failure = assistant(text("it failed"), model="<synthetic>", error=word, is_api_error_message=True)
    answer = answer_of(lines(failure, result(is_error=True, result="it failed")))
    assert type(answer.error) is WORDS[word]
    assert not answer.blocks


def test_a_filtered_answer_is_an_end() -> None:
    """An answer that a filter of the provider's stopped ends, and is no error."""
    said = "API Error: 400 Output blocked by content filtering policy"
    finished = answer_of(lines(result(is_error=True, result=said, api_error_status=400))).finished
    assert finished is not None
    assert finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert finished.refusal.prompt_blocked
    assert finished.refusal.explanation == said


def test_errors_hold_no_keys() -> None:
    """Should the CLI ever repeat a key or a token, the error does not."""
    said = "refused sk-ant-api03-Abc_def-123 and Bearer eyJhbGciOi.x-y"
    error = answer_of(lines(result(is_error=True, result=said, api_error_status=401))).error
    assert error is not None
    assert "refused [secret] and [secret]" in error.message
    assert "Abc_def" not in repr(error)


def test_half_a_character_is_mended() -> None:
    """Two halves of a character in two pieces are one character in the answer."""
    halves = lines(start(1), begin(0, type="text", text=""), delta(0, type="text_delta", text="\ud83d"))
    rest = lines(delta(0, type="text_delta", text="\ude00"), result())
    assert answer_of(halves + rest).text() == "\U0001f600"


def test_a_line_has_a_limit() -> None:
    """A line that never ends does not fill the memory."""
    decoder = LineDecoder(limit=10)
    assert decoder.feed(b"1234\n12345678") == [b"1234"]
    with pytest.raises(ProtocolError):
        decoder.feed(b"123")


def test_an_interrupted_run_is_no_stop() -> None:
    """A run that was aborted ends for another reason than that the model was done."""
    finished = answer_of(lines(assistant(text("a")), result(terminal_reason="aborted_streaming"))).finished
    assert finished is not None
    assert (finished.reason, finished.provider_finish_reason) == (chat_pb2.FINISH_REASON_OTHER, "aborted_streaming")


# -- any mixture

_parents = st.sampled_from([None, "toolu_1", "toolu_2"])
_words = st.text(max_size=8)
_pieces = st.one_of(
    _words.map(lambda said: {"type": "text_delta", "text": said}),
    _words.map(lambda said: {"type": "thinking_delta", "thinking": said}),
    _words.map(lambda said: {"type": "input_json_delta", "partial_json": said}),
    _words.map(lambda said: {"type": "signature_delta", "signature": said}),
    st.just({"type": "citations_delta", "citation": {"type": "page_location", "cited_text": "x"}}),
    st.just({"type": "new_delta", "new": [1]}),
)
_blocks = st.one_of(
    _words.map(text),
    _words.map(lambda said: {"type": "thinking", "thinking": said, "signature": "s"}),
    st.just({"type": "redacted_thinking", "data": "zz"}),
    st.just({"type": "tool_use", "id": "toolu_1", "name": "Agent", "input": {"a": 1}}),
    st.just({"type": "server_tool_use", "id": "", "name": "web_search", "input": {}}),
    st.just({"type": "web_search_tool_result", "tool_use_id": "x", "content": []}),
    st.just({"type": "new_block", "x": None}),
)
_results = st.lists(
    st.builds(
        lambda call, said, failed: {"type": "tool_result", "tool_use_id": call, "content": said, "is_error": failed},
        st.sampled_from(["toolu_1", "toolu_2"]),
        st.one_of(_words, st.lists(_blocks, max_size=2), st.none()),
        st.booleans(),
    ),
    max_size=2,
)
_figures = st.dictionaries(
    st.sampled_from([SONNET, "claude-opus-5[1m]"]),
    st.builds(figures, st.floats(0, 1e6), st.integers(0, 2**40)),
    max_size=2,
)
_messages = st.one_of(
    st.builds(start, st.integers(1, 3), st.sampled_from([SONNET, "claude-opus-5"]), _parents),
    st.builds(lambda index, parent, block: begin(index, parent, **block), st.integers(0, 2), _parents, _blocks),
    st.builds(lambda index, parent, piece: delta(index, parent, **piece), st.integers(0, 2), _parents, _pieces),
    st.builds(lambda index, parent: event("content_block_stop", parent, index=index), st.integers(0, 2), _parents),
    st.builds(lambda parent: event("message_stop", parent), _parents),
    st.just(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4})),
    st.builds(
        lambda blocks, number, parent: assistant(*blocks, number=number, parent_tool_use_id=parent),
        st.lists(_blocks, max_size=2),
        st.integers(1, 3),
        _parents,
    ),
    st.builds(
        lambda content: message("user", message={"role": "user", "content": content}), st.one_of(_words, _results)
    ),
    st.builds(
        lambda kind: message("system", subtype=kind, model=SONNET),
        st.sampled_from(["init", "status", "api_retry", "x"]),
    ),
    st.builds(lambda share: message("rate_limit_event", rate_limit_info={"utilization": share}), st.floats(0, 2)),
    st.builds(lambda models, failed: result(models, is_error=failed), _figures, st.booleans()),
    st.just(message("conversation_reset", new_conversation_id="n")),
)


@given(st.lists(_messages, max_size=25), st.randoms(use_true_random=False))
def test_any_mixture_of_messages_is_a_well_formed_answer(told: list[dict[str, Any]], chance: random.Random) -> None:
    """Whatever the CLI says, in whatever order and pieces: an answer, or an adapter's error behind a part of one."""
    data = lines(*told)
    whole, cut = _fed([data]), _fed(list(_cut(data, chance)))
    assert whole.blocks == cut.blocks
    assert (whole.finished, type(whole.error)) == (cut.finished, type(cut.error))


def _fed(pieces: list[bytes]) -> Answer:
    translated = translation()
    lists: list[Events] = []
    error: AdapterError | None = None
    try:
        lists.extend(map(translated.feed, pieces))
        lists.append(translated.end())
    except AdapterError as raised:
        error = raised
        lists.append(raised.events)
    answer = check_stream([events for events in lists if events], complete=error is None, family=FAMILY)
    answer.error = error
    return answer


def _cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randrange(len(data) + 1) for _ in range(5))
    return [data[first:last] for first, last in zip([0, *places], [*places, len(data)], strict=True)]


def test_a_session_is_named_in_each_block() -> None:
    """The state that resumes a conversation is the session, and the entry that the block ends at."""
    [block] = answer_of(lines(assistant(text("a"), number=7), result())).blocks
    assert [(state.kind, state.data.decode()) for state in block.states] == [
        ("session", f"{SESSION}/00000007-0000-4000-8000-000000000000")
    ]


def test_an_mcp_server_that_does_not_answer_is_told() -> None:
    """A run that goes on without a server's tools says so, of a server that may still come it does not."""
    states = {"up": "connected", "coming": "pending", "down": "failed", "locked": "needs-auth"}
    servers = [{"name": name, "status": status} for name, status in states.items()]
    init = message("system", subtype="init", model="claude-sonnet-5", mcp_servers=servers)
    answer = answer_of(lines(init, assistant(text("Hi.")), result()))
    warned = [notice.message for notice in answer.notices if notice.code == chat_pb2.NOTICE_CODE_PROVIDER_WARNING]
    assert [(said.split(": ")[0].split()[-1], said.split(": ")[1]) for said in warned] == [
        ("down", "failed"),
        ("locked", "needs-auth"),
    ]
