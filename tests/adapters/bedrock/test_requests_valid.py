"""Whatever a caller asks, the body is one that Bedrock's own description of its API allows."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from botocore.model import OperationModel, Shape, StructureShape
from botocore.session import Session
from botocore.validate import ParamValidator
from google.protobuf import duration_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from execution_platform.adapters.bedrock.models import KNOWN_MODELS
from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]
Block = content_pb2.ContentBlock

_SERVICE = Session().get_service_model("bedrock-runtime")
OPERATIONS = {
    "converse": _SERVICE.operation_model("Converse"),
    "converse-stream": _SERVICE.operation_model("ConverseStream"),
}
HIDDEN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2"
MODELS = [*(model.name for model in KNOWN_MODELS), HIDDEN, "amazon.titan-text-express-v1", "anthropic.claude-v2"]
TYPES = ["image/png", "image/bmp", "application/pdf", "text/plain", "text/x-python", "video/mp4", "audio/wav", ""]
URIS = ["s3://bucket/key.png", "s3://bucket/a b.pdf", "s3://bucket/none", "https://a.example/a.png"]
METADATA = ["", '{"guardContent":{"qualifiers":["query"]}}', '{"guardContent":true}', '{"status":"success"}', "no json"]

texts = st.text(max_size=6)
ids = st.one_of(st.sampled_from(["c1", "c2"]), st.text(min_size=1, max_size=90))
objects = st.sampled_from(["", "{}", '{"a": [1.0, 1e2, 123456789012345678901]}'])


def _hint(seconds: int) -> content_pb2.CacheHint:
    return content_pb2.CacheHint(ttl=duration_pb2.Duration(seconds=seconds))


hints = st.one_of(st.none(), st.builds(content_pb2.CacheHint), st.builds(_hint, st.sampled_from([1, 300, 900, 3600])))


def _blocks(content: st.SearchStrategy[Json]) -> st.SearchStrategy[Block]:
    return st.builds(
        lambda part, hint, **common: Block(cache_hint=hint, **common, **part),
        content,
        hints,
        family=st.sampled_from(["", "bedrock", "anthropic"]),
        provider_metadata_json=st.sampled_from(METADATA),
        states=st.lists(
            st.builds(content_pb2.OpaqueState, kind=st.just("signature"), data=st.just(b"c2ln+/==")), max_size=1
        ),
        citations=st.lists(
            st.builds(content_pb2.Citation, raw_json=st.just('{"title":"t","location":{"web":{"url":"u"}}}')),
            max_size=1,
        ),
    )


media = st.fixed_dictionaries(
    {
        "media": st.one_of(
            st.builds(
                content_pb2.MediaBlock,
                mime_type=st.sampled_from(TYPES),
                data=st.binary(max_size=3),
                filename=st.one_of(st.sampled_from(["a.pdf", "b_c.PDF", "  "]), texts),
                citations=st.one_of(st.none(), st.booleans()),
                detail=st.sampled_from(["", "low"]),
            ),
            st.builds(content_pb2.MediaBlock, mime_type=st.sampled_from(TYPES), uri=st.sampled_from(URIS)),
            st.builds(content_pb2.MediaBlock, file_id=st.just("file_1")),
        )
    }
)
text = st.fixed_dictionaries({"text": st.builds(content_pb2.TextBlock, text=texts)})
executors = st.sampled_from(content_pb2.ToolExecutor.values())
calls = st.fixed_dictionaries(
    {
        "tool_call": st.builds(
            content_pb2.ToolCallBlock,
            call_id=ids,
            name=st.sampled_from(["look", "a.b", "x" * 90]),
            arguments_json=objects,
            executed_by=executors,
        )
    }
)
results = st.fixed_dictionaries(
    {
        "tool_result": st.builds(
            content_pb2.ToolResultBlock,
            call_id=ids,
            content=st.lists(_blocks(st.one_of(text, media)), max_size=2),
            structured_content_json=st.one_of(objects, st.just("[1]")),
            is_error=st.booleans(),
            executed_by=executors,
            provider_type=st.sampled_from(["", "nova_code_interpreter_result"]),
        )
    }
)
others = st.sampled_from(
    [
        {"thinking": content_pb2.ThinkingBlock(text="hm")},
        {"redacted_thinking": content_pb2.RedactedThinkingBlock(data=b"c2Vj")},
        {"redacted_thinking": content_pb2.RedactedThinkingBlock(data=b"\xff")},
        {"refusal": content_pb2.RefusalBlock(text="no")},
        {"opaque": content_pb2.OpaqueBlock(type="text", json='{"text":"t"}')},
    ]
)
blocks = _blocks(st.one_of(text, media, calls, results, others))
messages = st.builds(
    content_pb2.Message,
    role=st.sampled_from([content_pb2.ROLE_USER, content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_SYSTEM]),
    content=st.lists(blocks, max_size=4),
    name=st.sampled_from(["", "ann"]),
)
tools = st.builds(
    chat_pb2.Tool,
    function=st.builds(
        chat_pb2.FunctionTool,
        name=st.sampled_from(["look", "a-b_2"]),
        description=texts,
        parameters_json=st.sampled_from(["", '{"type":"object"}']),
        strict=st.one_of(st.none(), st.booleans()),
    ),
    cache_hint=hints,
)
system_tools = st.builds(
    chat_pb2.Tool, provider=st.just(chat_pb2.ProviderTool(family="bedrock", type="nova_grounding"))
)
requests = st.builds(
    chat_pb2.ChatRequest,
    system=st.lists(_blocks(st.one_of(text, media)), max_size=2),
    messages=st.lists(messages, min_size=1, max_size=5),
    tools=st.lists(st.one_of(tools, system_tools), max_size=2),
    tool_choice=st.one_of(
        st.none(),
        st.builds(chat_pb2.ToolChoice, mode=st.sampled_from(chat_pb2.ToolChoiceMode.values()), name=st.just("look")),
    ),
    parallel_tool_calls=st.one_of(st.none(), st.booleans()),
    sampling=st.builds(
        chat_pb2.Sampling,
        max_output_tokens=st.one_of(st.none(), st.integers(1, 200_000)),
        temperature=st.one_of(st.none(), st.floats(0, 2)),
        top_p=st.one_of(st.none(), st.floats(0, 1)),
        top_k=st.one_of(st.none(), st.integers(1, 99)),
        seed=st.one_of(st.none(), st.just(7)),
        stop_sequences=st.lists(st.just("END"), max_size=1),
    ),
    reasoning=st.builds(
        chat_pb2.Reasoning,
        enabled=st.one_of(st.none(), st.booleans()),
        effort=st.sampled_from(["", "minimal", "low", "high", "max", "none"]),
        budget_tokens=st.one_of(st.none(), st.integers(0, 100_000)),
        display=st.sampled_from(chat_pb2.ReasoningDisplay.values()),
    ),
    output_format=st.one_of(
        st.none(),
        st.just(chat_pb2.OutputFormat(json=chat_pb2.JsonFormat())),
        st.just(chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json='{"type":"object"}'))),
    ),
    cache=st.builds(chat_pb2.CachePolicy, automatic=st.one_of(st.none(), st.booleans())),
    service_tier=st.sampled_from(["", "flex", "gold"]),
)


def built(request: chat_pb2.ChatRequest, model: str, *, unary: bool) -> tuple[Json, OperationModel] | None:
    """The body of a request and the operation that it is of; None: the request is refused."""
    try:
        wire = build_request(Call(request, model, unary=unary), "bedrock", "eu-central-1")
    except InvalidRequestError:
        return None
    return json.loads(wire.body), OPERATIONS[wire.path.rpartition("/")[2]]


def faults(value: Any, shape: Shape, path: str) -> list[str]:
    """What of a value the description forbids and botocore's validator does not look at."""
    metadata = shape.metadata
    found: list[str] = []
    if shape.type_name == "structure" and isinstance(shape, StructureShape) and not shape.is_document_type:
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            found.append(f"{path}: a union with {sorted(value)}")
        for key, part in value.items():
            found += faults(part, shape.members[key], f"{path}.{key}")
    elif shape.type_name == "list":
        for number, part in enumerate(value):
            found += faults(part, shape.member, f"{path}[{number}]")
    elif shape.type_name == "string" and "enum" in metadata and value not in metadata["enum"]:
        found.append(f"{path}: {value!r} is not one of {metadata['enum']}")
    elif shape.type_name == "string" and "pattern" in metadata and not re.fullmatch(metadata["pattern"], value):
        found.append(f"{path}: {value!r} does not fit {metadata['pattern']}")
    size = value if isinstance(value, int | float) else len(value)
    if "max" in metadata and size > metadata["max"]:
        found.append(f"{path}: more than {metadata['max']}")
    return found


def check(body: Json, operation: OperationModel, model: str) -> None:
    """Hold a body against the description of its operation."""
    shape = operation.input_shape
    assert shape is not None
    report = ParamValidator().validate({**body, "modelId": model}, shape)
    assert not report.has_errors(), report.generate_report()
    assert faults(body, shape, "") == []


def check_rules(body: Json) -> None:
    """Hold a body against the rules that the description tells only in words."""
    spoken = [message["role"] for message in body["messages"] if message["role"] != "system"]
    assert spoken[:1] in ([], ["user"])
    roles = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))
    content = [block for message in body["messages"] for block in message["content"]]
    assert all(block["text"].strip() for block in content if "text" in block)
    used = [
        block
        for block in content
        if block.keys() & {"toolUse", "toolResult"} and "type" not in next(iter(block.values()))
    ]
    assert "toolConfig" in body or not [block for block in used if "toolUse" in block]
    results_ = [part for block in content if "toolResult" in block for part in block["toolResult"]["content"]]
    names = [block["document"]["name"] for block in [*content, *results_] if "document" in block]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Za-z0-9\s\-()\[\]]{1,200}", name) and "  " not in name for name in names)


@given(requests, st.sampled_from(MODELS), st.booleans())
@example(chat_pb2.ChatRequest(messages=[content_pb2.Message(role=content_pb2.ROLE_USER)]), HIDDEN, False)
def test_every_body_is_valid(request_: chat_pb2.ChatRequest, model: str, unary: bool) -> None:
    """What the API is described as holds: shapes, patterns, limits and enumerations, and its rules in words."""
    made = built(request_, model, unary=unary)
    if made is not None:
        check(*made, model)
        check_rules(made[0])


@given(requests, st.sampled_from(MODELS))
def test_a_request_is_never_changed(request_: chat_pb2.ChatRequest, model: str) -> None:
    """The caller's message is the same afterwards, and the body of a second time is the first one's."""
    before = request_.SerializeToString(deterministic=True)
    first = built(request_, model, unary=False)
    second = built(request_, model, unary=False)
    assert request_.SerializeToString(deterministic=True) == before
    assert (first and first[0]) == (second and second[0])


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_the_validator_sees_faults(operation: str) -> None:
    """A made-up member, a wrong type, a bad name and an unknown format are all found."""
    shape = OPERATIONS[operation].input_shape
    assert shape is not None
    for wrong in ({"extra": 1}, {"messages": "none"}):
        assert ParamValidator().validate({"modelId": "m", **wrong}, shape).has_errors()
    assert faults({"serviceTier": {"type": "gold"}}, shape, "")
    assert faults({"toolConfig": {"tools": [{"systemTool": {"name": "a.b"}}]}}, shape, "")
