"""What the model said goes back as it came; what another family said goes back as far as it can."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.openai_responses.answers import ANSWERS, answer_to, answered
from tests.adapters.openai_responses.reading import encrypted, read
from tests.adapters.recordings import Record, body_of, params

from execution_platform.adapters.errors import UnsupportedOptionError
from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.dialect import WireRequest
from execution_platform.adapters.openai_api.responses.request import build_responses
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

Block = content_pb2.ContentBlock

WITH_STATE = [record for record in ANSWERS if encrypted(read(body_of(record)))]


def second_turn(answer: content_pb2.Message, model: str = "gpt-5.6-sol", **options: Any) -> WireRequest:
    """The request that goes on after an answer, with a result for each call that is the caller's."""
    request = chat_pb2.ChatRequest(**options)
    request.messages.add(role=content_pb2.ROLE_USER, content=[text("Go.")])
    request.messages.append(answer)
    results = [
        Block(tool_result=content_pb2.ToolResultBlock(call_id=block.tool_call.call_id, content=[text("done")]))
        for block in answer.content
        if block.HasField("tool_call") and block.tool_call.executed_by == content_pb2.TOOL_EXECUTOR_CLIENT
    ]
    request.messages.add(role=content_pb2.ROLE_USER, content=results or [text("And then?")])
    return build_responses(Call(request, model), DIALECT.for_model(model))


def text(words: str) -> Block:
    return Block(text=content_pb2.TextBlock(text=words))


def items_of(wire: WireRequest) -> list[Any]:
    items: list[Any] = json.loads(wire.body)["input"]
    return items


def answer_of(*blocks: Block) -> content_pb2.Message:
    return content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, content=blocks)


def output(*items: dict[str, Any]) -> content_pb2.Message:
    """The message that an answer of these items becomes."""
    body = {"id": "resp_1", "model": "m", "status": "completed", "output": items}
    return answer_to(json.dumps(body).encode()).message


@pytest.mark.parametrize("record", params(iter(WITH_STATE)))
def test_encrypted_reasoning_comes_back_byte_for_byte(record: Record) -> None:
    """In the second turn each encrypted content stands in the body as it stood in the answer, in the same order."""
    wire = second_turn(answered(record).message)
    told = encrypted(read(body_of(record)))
    assert [item["encrypted_content"] for item in items_of(wire) if item.get("encrypted_content")] == told
    assert all(json.dumps(each).encode() in wire.body for each in told)


@pytest.mark.parametrize("record", params(record for record in WITH_STATE if "tool_call" in record["features"]))
def test_a_call_follows_its_reasoning_and_is_answered(record: Record) -> None:
    """In the second turn reasoning, its calls and their results stand in this order, with the ids that they had."""
    items = items_of(second_turn(answered(record).message))
    told = read(body_of(record)).items
    types = [item.get("type", "message") for item in items[1 : 1 + len(told)]]
    assert types == [item["type"] for item in told]
    calls = [item for item in told if item["type"] == "function_call"]
    results = items[1 + len(told) :]
    assert [item["id"] for item in items if item.get("type") == "function_call"] == [call["id"] for call in calls]
    assert {call["call_id"] for call in calls} <= {result["call_id"] for result in results}


def test_parts_of_one_item_go_back_as_one() -> None:
    """Several summaries and texts of one reasoning item, and the parts of one message, become one item again."""
    items: list[dict[str, Any]] = [
        {
            "id": "rs_1",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "content": [{"type": "reasoning_text", "text": "three"}],
            "encrypted_content": "gAAA=",
            "status": "completed",
        },
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "refusal", "refusal": "b"},
                {"type": "newer_part", "value": 1.50},
            ],
        },
    ]
    wire = second_turn(output(*items))
    assert items_of(wire)[1:3] == items
    assert b'"value":1.5' in wire.body.replace(b" ", b"")


def test_neighbours_of_one_id_stay_two_items() -> None:
    """Two reasoning items that share an id, as xAI gives them, go back as two."""
    items: list[dict[str, Any]] = [
        {
            "id": "rs_1",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "a"}],
            "encrypted_content": "x",
        },
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "y"},
        {
            "id": "rs_1",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "b"}],
            "encrypted_content": "z",
        },
    ]
    assert items_of(second_turn(output(*items)))[1:4] == items


def test_reasoning_that_was_not_encrypted_is_left_out() -> None:
    """Without encrypted content reasoning cannot be sent back, and the server would miss it by the others' ids."""
    wire = second_turn(
        output(
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        )
    )
    assert items_of(wire)[1] == {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    assert [notice.code for notice in wire.notices] == [chat_pb2.NOTICE_CODE_STATE_DROPPED]


def test_a_server_that_keeps_answers_gets_them_back_by_id() -> None:
    """With store: true reasoning goes back by its id alone."""
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    options = [chat_pb2.ProviderOptions(provider="openai", options_json='{"store": true}')]
    wire = second_turn(output(item), provider_options=options)
    assert items_of(wire)[1] == item
    body = json.loads(wire.body)
    assert body["store"] is True
    assert "include" not in body


def test_a_model_that_does_not_reason_gets_no_reasoning() -> None:
    """Reasoning of another model of the family is left out with a notice, and the ids with it."""
    wire = second_turn(
        output(
            {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA="},
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": []},
        ),
        model="gpt-4.1",
    )
    assert [item.get("type") for item in items_of(wire)] == [None, "message", None]
    assert "id" not in items_of(wire)[1]
    assert [notice.code for notice in wire.notices] == [chat_pb2.NOTICE_CODE_STATE_DROPPED]


def test_words_and_calls_of_another_family_go_through() -> None:
    """Of another family's answer the text and the calls go through; its reasoning and states do not."""
    signed = content_pb2.OpaqueState(kind="signature", data=b"abc")
    wire = second_turn(
        answer_of(
            Block(id="x", family="anthropic", thinking=content_pb2.ThinkingBlock(text="hm"), states=[signed]),
            Block(family="anthropic", text=content_pb2.TextBlock(text="Let me look.")),
            Block(
                id="toolu_1",
                family="anthropic",
                provider_metadata_json='{"caller":{}}',
                tool_call=content_pb2.ToolCallBlock(
                    call_id="toolu_1",
                    name="f",
                    arguments_json='{"b": 1,  "a": 1e0}',
                    executed_by=content_pb2.TOOL_EXECUTOR_CLIENT,
                ),
            ),
            Block(family="anthropic", opaque=content_pb2.OpaqueBlock(type="new", json="{}")),
        )
    )
    assert items_of(wire)[1:3] == [
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "toolu_1", "name": "f", "arguments": '{"b": 1,  "a": 1e0}'},
    ]
    assert [notice.code for notice in wire.notices] == [
        chat_pb2.NOTICE_CODE_STATE_DROPPED,
        chat_pb2.NOTICE_CODE_STATE_DROPPED,
        chat_pb2.NOTICE_CODE_BLOCK_DROPPED,
    ]


def test_a_lost_block_is_refused_where_the_request_wants_that() -> None:
    """With REJECT a block that cannot be sent refuses the request, naming the block."""
    answer = answer_of(Block(family="gemini", opaque=content_pb2.OpaqueBlock(type="new", json="{}")))
    with pytest.raises(UnsupportedOptionError) as refused:
        second_turn(answer, unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT)
    assert refused.value.field == "messages[1].content[0]"


def test_an_image_goes_back_as_the_item_that_it_was() -> None:
    """A generated image becomes its item again; its previews and the call before it are not sent."""
    item = {
        "id": "ig_1",
        "type": "image_generation_call",
        "status": "completed",
        "output_format": "webp",
        "result": "AAEC",
        "revised_prompt": "a cat",
    }
    message = output(item)
    assert message.content[1].media.data == b"\x00\x01\x02"
    assert message.content[1].media.mime_type == "image/webp"
    preview = Block(
        id="ig_1",
        family="openai",
        media=content_pb2.MediaBlock(mime_type="image/webp", data=b"\x00"),
        provider_metadata_json='{"type":"image_generation_call","partial_image_index":0}',
    )
    message.content.insert(1, preview)
    assert items_of(second_turn(message))[1:2] == [item]


def test_base64_that_is_not_canonical_is_kept_as_it_stands() -> None:
    """An image whose base64 would come out otherwise stays the item's JSON, so that it goes back the same."""
    item = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "AAEC...shortened"}
    message = output(item)
    assert json.loads(message.content[1].tool_result.structured_content_json) == item
    assert items_of(second_turn(message))[1] == item


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (
            {"id": "ct_1", "type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "SELECT 1"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        ),
        (
            {
                "id": "lsh_1",
                "type": "local_shell_call",
                "call_id": "c",
                "action": {"type": "exec"},
                "status": "completed",
            },
            {"type": "local_shell_call_output", "call_id": "c", "output": "done"},
        ),
        (
            {"id": "sh_1", "type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}, "status": "completed"},
            {
                "type": "shell_call_output",
                "call_id": "c",
                "output": [{"stdout": "done", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
            },
        ),
        (
            {
                "id": "apc_1",
                "type": "apply_patch_call",
                "call_id": "c",
                "operation": {"type": "delete_file", "path": "a"},
            },
            {"type": "apply_patch_call_output", "call_id": "c", "status": "completed", "output": "done"},
        ),
        (
            {"id": "mcpr_1", "type": "mcp_approval_request", "name": "f", "arguments": "{}", "server_label": "s"},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True, "reason": "done"},
        ),
    ],
)
def test_the_answer_to_a_call_has_the_form_of_the_call(call: dict[str, Any], result: dict[str, Any]) -> None:
    """A result in words becomes the item that answers this type of call."""
    assert items_of(second_turn(output(call)))[1:] == [call, result]


def test_a_result_in_the_formats_own_form_is_sent_as_it_stands() -> None:
    """structured_content_json holds the other keys of an item, and provider_type its type."""
    request = chat_pb2.ChatRequest()
    result = content_pb2.ToolResultBlock(
        call_id="c",
        provider_type="computer_call_output",
        structured_content_json='{"output": {"type": "computer_screenshot", "image_url": "data:x"}, "n": 1.00}',
    )
    request.messages.add(role=content_pb2.ROLE_USER, content=[Block(tool_result=result)])
    wire = build_responses(Call(request, "gpt-5.6-sol"), DIALECT)
    assert items_of(wire)[0]["output"] == {"type": "computer_screenshot", "image_url": "data:x"}
    assert b'"n":1.00' in wire.body


def test_a_call_of_the_servers_without_its_result_is_left_out() -> None:
    """An answer that broke off inside a tool of the server's goes back without that call, with a notice."""
    message = output({"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}})
    del message.content[1]
    wire = second_turn(message)
    assert len(items_of(wire)) == 2
    assert [notice.field for notice in wire.notices] == ["messages[1].content[0]"]
