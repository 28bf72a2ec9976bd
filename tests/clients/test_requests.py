"""How prompts and keywords become a ChatRequest."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor

from execution_platform.client import (
    AsyncExecutionPlatformClient,
    ChatFields,
    ExecutionPlatformClient,
    TargetError,
    Tls,
    assistant,
    file,
    media,
    system,
    text,
    tool,
    tool_result,
    user,
)
from execution_platform.client.options import ConnectionOptions
from execution_platform.client.requests import Defaults, Prompt, build_request, joined_model
from execution_platform.v1 import capability_pb2, chat_pb2, content_pb2

EVERY_KEYWORD: ChatFields = {
    "model": "m",
    "provider": "p",
    "persona": "dev",
    "request_id": "id",
    "system": "be brief",
    "tools": [chat_pb2.FunctionTool(name="f")],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_output_tokens": 1,
    "temperature": 0.0,
    "top_p": 0.5,
    "top_k": 3,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "seed": 4,
    "stop_sequences": ["end"],
    "logprobs": True,
    "top_logprobs": 5,
    "logit_bias": {7: -1.5},
    "reasoning": "high",
    "output_format": "json",
    "output_modalities": ["text", "audio"],
    "audio_output": chat_pb2.AudioOutput(voice="alloy"),
    "cache": True,
    "unsupported_options": "reject",
    "provider_events": True,
    "service_tier": "flex",
    "end_user_id": "u",
    "session_id": "s",
    "labels": {"team": "blue"},
    "provider_options": {"openai": {"store": False}},
    "fallback_models": ["q/m"],
    "first_token_timeout": 2.5,
    "idle_timeout": 30,
    "mid_stream": "restart",
    "allowed_providers": ["p", "q"],
    "allowed_regions": ["eu"],
    "requires": ["tools", capability_pb2.CAPABILITY_IMAGE_INPUT],
    "retries": False,
}


def names(message: Descriptor) -> set[str]:
    """Return the names of a message's fields."""
    return {field.name for field in message.fields}


def test_every_field_has_a_keyword() -> None:
    """The keywords together set every field of ChatRequest, of Sampling, of CallContext and of Routing."""
    request = build_request("Hello", EVERY_KEYWORD)
    assert {field.name for field, _ in request.ListFields()} == names(chat_pb2.ChatRequest.DESCRIPTOR)
    assert {field.name for field, _ in request.sampling.ListFields()} == names(chat_pb2.Sampling.DESCRIPTOR)
    assert {field.name for field, _ in request.context.ListFields()} == names(chat_pb2.CallContext.DESCRIPTOR)
    assert {field.name for field, _ in request.routing.ListFields()} == names(chat_pb2.Routing.DESCRIPTOR)
    assert request.routing.first_token_timeout.ToTimedelta() == timedelta(seconds=2.5)
    assert list(request.routing.required_capabilities) == [
        capability_pb2.CAPABILITY_TOOLS,
        capability_pb2.CAPABILITY_IMAGE_INPUT,
    ]
    assert request.sampling.temperature == 0.0
    assert request.model == "p/m"
    assert request.provider_options[0].options_json == '{"store": false}'


def test_keywords_win_over_messages_and_those_over_nothing() -> None:
    """Where a keyword and a whole message both speak of a field, the keyword stands and the rest stays."""
    fields: ChatFields = {
        "sampling": chat_pb2.Sampling(seed=1, top_k=2, stop_sequences=["a"]),
        "context": chat_pb2.CallContext(session_id="s"),
        "stream_options": chat_pb2.StreamOptions(provider_events=True),
        "top_k": 9,
        "end_user_id": "u",
        "routing": chat_pb2.Routing(fallback_models=["a"], allowed_regions=["eu"]),
        "fallback_models": ["b"],
    }
    request = build_request("Hello", fields)
    assert request.sampling == chat_pb2.Sampling(seed=1, top_k=9, stop_sequences=["a"])
    assert request.context == chat_pb2.CallContext(session_id="s", end_user_id="u")
    assert request.routing == chat_pb2.Routing(fallback_models=["b"], allowed_regions=["eu"])
    assert request.stream_options.provider_events


def test_one_name_is_no_list_of_names() -> None:
    """A text where names are expected raises instead of being read letter by letter."""
    for fields in ({"fallback_models": "a"}, {"requires": "tools"}, {"allowed_regions": "eu"}):
        with pytest.raises(TypeError, match="is a list of"):
            build_request("Hello", cast("ChatFields", fields))


def test_a_ready_request_is_copied() -> None:
    """A ChatRequest goes out as it is but for what keywords and defaults add, and is never changed itself."""
    ready = chat_pb2.ChatRequest(model="m", tools=[chat_pb2.Tool()], messages=[user("Hello")])
    sent = build_request(ready, {"top_k": 3, "tools": []}, Defaults(model="other", persona="dev"))
    assert (sent.model, sent.persona, sent.sampling.top_k, len(sent.tools)) == ("m", "dev", 3, 0)
    assert ready == chat_pb2.ChatRequest(model="m", tools=[chat_pb2.Tool()], messages=[user("Hello")])


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("Hello", [user("Hello")]),
        (text("Hello"), [user("Hello")]),
        (user("Hello"), [user("Hello")]),
        (["look", media(uri="https://x.example/a.png")], [user(["look", media(uri="https://x.example/a.png")])]),
        ([user("a"), assistant("b"), "c"], [user("a"), assistant("b"), user("c")]),
        (["a", assistant("b"), system("c")], [user("a"), assistant("b"), system("c")]),
        ((part for part in ["a", "b"]), [user(["a", "b"])]),
    ],
    ids=["text", "block", "message", "blocks", "conversation", "roles", "generator"],
)
def test_a_prompt_is_a_conversation(prompt: Prompt, messages: list[content_pb2.Message]) -> None:
    """Text and blocks are the caller's message, neighbours are one message, and messages stay as they are."""
    assert list(build_request(prompt, {}).messages) == messages


def test_what_is_no_prompt_is_refused() -> None:
    """A part that is neither text, block nor message raises TypeError, and so does an unknown keyword."""
    with pytest.raises(TypeError, match="not dict"):
        build_request([{"role": "user"}], {})  # type: ignore[list-item]  # wrong on purpose
    with pytest.raises(TypeError, match="unknown keyword max_tokens"):
        build_request("Hello", {"max_tokens": 1})  # type: ignore[typeddict-unknown-key]  # wrong on purpose


@pytest.mark.parametrize(
    ("given", "defaults", "sent"),
    [
        ({}, Defaults(), ""),
        ({}, Defaults(model="m"), "m"),
        ({}, Defaults(provider="p"), "p"),
        ({}, Defaults(model="m", provider="p"), "p/m"),
        ({"model": "x/y"}, Defaults(model="m", provider="p"), "x/y"),
        ({"provider": "q"}, Defaults(model="m", provider="p"), "q"),
        ({"provider": "q", "model": "org/m"}, Defaults(), "q/org/m"),
        ({"provider": "q", "model": "q/m"}, Defaults(), "q/m"),
    ],
)
def test_whoever_names_a_model_or_a_provider_names_both(given: ChatFields, defaults: Defaults, sent: str) -> None:
    """A call's model or provider stands alone, and a client's only where the call names neither."""
    assert build_request("Hello", given, defaults).model == sent


def test_joining_keeps_what_is_joined() -> None:
    """A model that already begins with its provider is not given it twice."""
    assert joined_model("openai/gpt", "openai") == "openai/gpt"
    assert joined_model("gpt", "") == "gpt"


@dataclass
class Person:
    """A person.

    Attributes:
        name: first and last.
    """

    name: str
    age: int | None = None


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "first and last."},
        "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
    "description": "A person.",
}


@pytest.mark.parametrize(
    ("given", "name", "schema"),
    [(Person, "Person", PERSON), ({"type": "object"}, "", {"type": "object"})],
)
def test_an_answer_can_be_given_a_schema(given: Any, name: str, schema: Any) -> None:
    """A dataclass and a mapping both become a JSON schema."""
    sent = build_request("Hello", {"output_format": given}).output_format.json_schema
    assert (sent.name, json.loads(sent.schema_json)) == (name, schema)


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"reasoning": True}, chat_pb2.ChatRequest(reasoning=chat_pb2.Reasoning(enabled=True))),
        ({"reasoning": 512}, chat_pb2.ChatRequest(reasoning=chat_pb2.Reasoning(budget_tokens=512))),
        (
            {"reasoning": chat_pb2.Reasoning(display=chat_pb2.REASONING_DISPLAY_OMITTED)},
            chat_pb2.ChatRequest(reasoning=chat_pb2.Reasoning(display=chat_pb2.REASONING_DISPLAY_OMITTED)),
        ),
        (
            {"tool_choice": "look_up"},
            chat_pb2.ChatRequest(tool_choice=chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NAMED, name="look_up")),
        ),
        (
            {"tool_choice": chat_pb2.ToolChoice(allowed_names=["a"])},
            chat_pb2.ChatRequest(tool_choice=chat_pb2.ToolChoice(allowed_names=["a"])),
        ),
        (
            {"output_format": "text"},
            chat_pb2.ChatRequest(output_format=chat_pb2.OutputFormat(text=chat_pb2.TextFormat())),
        ),
        (
            {"output_format": chat_pb2.OutputFormat(verbosity="low")},
            chat_pb2.ChatRequest(output_format=chat_pb2.OutputFormat(verbosity="low")),
        ),
        (
            {"output_format": chat_pb2.JsonSchemaFormat(schema_json="{}")},
            chat_pb2.ChatRequest(
                output_format=chat_pb2.OutputFormat(json_schema=chat_pb2.JsonSchemaFormat(schema_json="{}"))
            ),
        ),
        (
            {"output_modalities": [content_pb2.MODALITY_IMAGE]},
            chat_pb2.ChatRequest(output_modalities=[content_pb2.MODALITY_IMAGE]),
        ),
        ({"cache": chat_pb2.CachePolicy(key="k")}, chat_pb2.ChatRequest(cache=chat_pb2.CachePolicy(key="k"))),
        (
            {"unsupported_options": chat_pb2.UNSUPPORTED_OPTION_POLICY_DROP},
            chat_pb2.ChatRequest(unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_DROP),
        ),
        (
            {"provider_options": [chat_pb2.ProviderOptions(provider="p", options_json="{}")]},
            chat_pb2.ChatRequest(provider_options=[chat_pb2.ProviderOptions(provider="p", options_json="{}")]),
        ),
        (
            {"provider_options": {"p": '{"x": 1.0}'}},
            chat_pb2.ChatRequest(provider_options=[chat_pb2.ProviderOptions(provider="p", options_json='{"x": 1.0}')]),
        ),
    ],
)
def test_each_form_of_a_keyword_means_its_field(fields: ChatFields, sent: chat_pb2.ChatRequest) -> None:
    """Short forms and whole messages set the same fields, and JSON text stays as it is."""
    assert build_request(chat_pb2.ChatRequest(), fields) == sent


def test_tools_may_come_in_every_form() -> None:
    """A tool of the contract, a definition, a decorated and a plain function may stand in one list."""

    def plain() -> None:
        """Do nothing."""

    @tool(name="named", description="better words", strict=True)
    def decorated() -> None:
        """Do nothing."""

    web = chat_pb2.Tool(provider=chat_pb2.ProviderTool(type="web_search"))
    sent = build_request("Hello", {"tools": [web, chat_pb2.FunctionTool(name="f"), decorated, plain]}).tools
    assert sent[0] == web
    assert [each.function.name for each in sent[1:]] == ["f", "named", "plain"]
    assert (sent[2].function.description, sent[2].function.strict) == ("better words", True)
    assert not sent[3].function.HasField("strict")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"output_format": "xml"}, ValueError),
        ({"unsupported_options": "ignore"}, ValueError),
        ({"output_modalities": "text"}, TypeError),
        ({"stop_sequences": "end"}, TypeError),
        ({"temperature": "hot"}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused_here(fields: Any, error: type[Exception]) -> None:
    """A value without a meaning raises before anything is sent."""
    with pytest.raises(error):
        build_request("Hello", fields)


def test_media_has_one_source(tmp_path: Path) -> None:
    """Media come from bytes, an address, a file at the provider or a file here, and never from two at once."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")
    made = file(picture, cache=timedelta(minutes=5))
    assert (made.media.data, made.media.mime_type, made.media.filename) == (b"png", "image/png", "a.png")
    assert made.cache_hint.ttl.seconds == 300
    assert media(file_id="f", citations=True).media.citations
    assert media(data=b"", mime_type="a/b").media.WhichOneof("source") == "data"
    with pytest.raises(ValueError, match="exactly one"):
        media(uri="https://x.example", file_id="f")
    with pytest.raises(ValueError, match="mime_type"):
        media(data=b"x")
    with pytest.raises(ValueError, match="media type"):
        file(tmp_path / "unknown")
    assert text("x", cache=True).HasField("cache_hint")
    assert tool_result("id", "done", is_error=True).tool_result.call_id == "id"


@pytest.mark.parametrize(
    "target", ["127.0.0.1:50051", "host.example:1", "[::1]:50051", "unix:/a/b", "unix:///a/b", "dns:///host:1"]
)
def test_targets_of_grpc_are_taken(target: str) -> None:
    """Addresses with a port, unix sockets and gRPC's own names are targets."""
    assert ConnectionOptions(target).target == target


@pytest.mark.parametrize(
    "target", ["", "host", "host:", "host:port", "host:0", "host:65536", "a b:1", "unix:", "unix://"]
)
def test_what_names_no_server_is_refused(target: str) -> None:
    """A target without a port, or without a path, raises TargetError when the client is made."""
    with pytest.raises(TargetError, match="target"):
        ExecutionPlatformClient(target)


def test_a_url_is_refused_with_what_to_write() -> None:
    """The error for a URL says what to leave out."""
    with pytest.raises(TargetError, match=r"leave out https:// and write host.example:443"):
        AsyncExecutionPlatformClient("https://host.example:443/")


def test_a_token_never_shows_and_never_travels_open() -> None:
    """No repr has a credential, and a token for another machine needs encryption."""
    options = ConnectionOptions(token="s3cret", metadata={"x-key": "s3cret"}, tls=Tls(b"ca", b"cert", b"s3cret"))
    client = ExecutionPlatformClient("localhost:1", token="s3cret", metadata={"x-key": "s3cret"})
    assert "s3cret" not in repr(options) + repr(client) + str(client) + repr(client.options)
    with pytest.raises(ValueError, match="encrypted"):
        ConnectionOptions("host.example:1", token="s3cret")
    assert ConnectionOptions("host.example:1", token="s3cret", tls=True).call_metadata() == (
        ("authorization", "Bearer s3cret"),
    )


def test_half_a_certificate_is_refused() -> None:
    """A client certificate without its key raises ValueError."""
    with pytest.raises(ValueError, match="both"):
        Tls(certificate_chain=b"cert")


def test_the_channel_keeps_the_contracts_limits() -> None:
    """Pings keep ten seconds apart, whole answers with media fit, and the channel never retries by itself."""
    arguments = dict(ConnectionOptions().channel_arguments())
    assert arguments["grpc.keepalive_time_ms"] >= 10_000
    assert arguments["grpc.max_receive_message_length"] >= 32 << 20
    assert arguments["grpc.enable_retries"] == 0
    assert arguments["grpc.enable_http_proxy"] == 0
    theirs = dict(ConnectionOptions("host.example:1", channel_options=[("grpc.enable_retries", 1)]).channel_arguments())
    assert theirs["grpc.enable_retries"] == 1
    assert "grpc.enable_http_proxy" not in theirs
    named = ConnectionOptions("10.0.0.1:1", tls=Tls(server_name="host.example"))
    assert dict(named.channel_arguments())["grpc.ssl_target_name_override"] == "host.example"
