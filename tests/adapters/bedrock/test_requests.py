"""What a chat asks is said in Converse's words: where it goes, messages, media, guardrails, what stays behind."""

from __future__ import annotations

import json

import pytest
from tests.adapters.bedrock.asking import (
    ASSISTANT,
    HIDDEN,
    LLAMA,
    NOVA,
    OPUS_5,
    SONNET_45,
    SYSTEM,
    TITAN,
    USER,
    Json,
    attach,
    built,
    content_of,
    hello,
    say,
)

from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.errors import NotConfiguredError, UnsupportedOptionError
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

# -- where it goes


@pytest.mark.parametrize(
    ("model", "region", "path"),
    [
        (NOVA, "eu-central-1", "/model/amazon.nova-pro-v1%3A0/converse-stream"),
        (f"us-east-1/{NOVA}", "us-east-1", "/model/amazon.nova-pro-v1%3A0/converse-stream"),
        (
            HIDDEN,
            "eu-west-1",
            f"/model/{HIDDEN.replace(':', '%3A').replace('/', '%2F')}/converse-stream",
        ),
    ],
)
def test_a_model_is_asked_in_its_region(model: str, region: str, path: str) -> None:
    """The name's region goes before the configured one, and the path holds the id or the whole ARN."""
    wire = build_request(Call(hello(), model), "bedrock", "eu-central-1")
    assert (wire.region, wire.path) == (region, path)
    assert wire.headers["accept"] == "application/vnd.amazon.eventstream"


def test_without_a_region_nobody_can_be_asked() -> None:
    """A name without a region is not configured where none is; one with a region is."""
    with pytest.raises(NotConfiguredError, match="EP_BEDROCK_REGION"):
        build_request(Call(hello(), NOVA), "bedrock", "")
    assert build_request(Call(hello(), f"us-east-1/{NOVA}"), "bedrock", "").region == "us-east-1"


@pytest.mark.parametrize(
    ("model", "tools", "unary", "operation"),
    [
        (NOVA, True, False, "converse-stream"),
        (NOVA, True, True, "converse"),
        (LLAMA, False, False, "converse-stream"),
        (LLAMA, True, False, "converse"),
        ("us.meta.llama4-scout-17b-instruct-v1:0", True, False, "converse"),
        ("mistral.mistral-large-2407-v1:0", True, False, "converse"),
        ("us.writer.palmyra-x5-v1:0", True, False, "converse"),
        ("ai21.jamba-1-5-large-v1:0", True, False, "converse-stream"),
        ("cohere.command-r-plus-v1:0", True, False, "converse-stream"),
        ("openai.gpt-oss-120b-1:0", True, False, "converse-stream"),
    ],
)
def test_a_model_that_streams_no_calls_is_asked_for_a_whole_answer(
    model: str, tools: bool, unary: bool, operation: str
) -> None:
    """Where tools are at hand, such a model is asked by Converse instead of being refused by ConverseStream."""
    request = hello()
    if tools:
        request.tools.add().function.name = "look"
    wire = build_request(Call(request, model, unary=unary), "bedrock", "eu-central-1")
    assert wire.path.rpartition("/")[2] == operation
    assert (wire.headers["accept"] == "application/json") == (operation == "converse")


# -- messages


def test_roles_alternate() -> None:
    """Neighbours of one role become one message, in order; results of parallel calls so come together."""
    request = chat_pb2.ChatRequest()
    say(request, USER, "one")
    say(request, USER, "two", "three")
    say(request, ASSISTANT, "four")
    body, notices = built(request)
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "one"}, {"text": "two"}, {"text": "three"}]},
        {"role": "assistant", "content": [{"text": "four"}]},
    ]
    assert notices == []


def test_a_conversation_begins_with_the_user() -> None:
    """Words are put before an answer that nobody asked for, and a notice says so."""
    request = chat_pb2.ChatRequest()
    say(request, ASSISTANT, "welcome")
    say(request, USER, "hello")
    body, notices = built(request)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert notices == [("PARAM_DEFAULTED", "messages[0]")]


def test_blank_text_and_empty_messages_are_left_out() -> None:
    """Bedrock refuses both; the rest goes through."""
    request = hello()
    say(request, ASSISTANT, " \n")
    say(request, USER, "go on")
    body, notices = built(request)
    assert body["messages"] == [{"role": "user", "content": [{"text": "hello"}, {"text": "go on"}]}]
    assert notices == [("BLOCK_DROPPED", "messages[1].content[0]"), ("BLOCK_DROPPED", "messages[1]")]


@pytest.mark.parametrize(("model", "role"), [(OPUS_5, "system"), (SONNET_45, "user")])
def test_instructions_in_between_keep_their_role_where_it_is_taken(model: str, role: str) -> None:
    """Newer Claudes take system messages, others read them as the user's, with a notice."""
    request = hello()
    say(request, ASSISTANT, "hi")
    say(request, SYSTEM, "be brief")
    body, notices = built(request, model)
    assert body["messages"][2] == {"role": role, "content": [{"text": "be brief"}]}
    assert notices == ([] if role == "system" else [("PARAM_ADJUSTED", "messages[2].role")])


def test_instructions_go_to_the_user_where_a_model_takes_none() -> None:
    """Titan has no system prompt: its words come first in the conversation."""
    request = hello()
    request.system.add().text.text = "be brief"
    assert built(request)[0]["system"] == [{"text": "be brief"}]
    body, notices = built(request, TITAN)
    assert "system" not in body
    assert body["messages"][0]["content"] == [{"text": "be brief"}, {"text": "hello"}]
    assert notices == [("PARAM_ADJUSTED", "system")]


# -- media


@pytest.mark.parametrize(
    ("mime", "kind", "form"),
    [
        ("image/png", "image", "png"),
        ("image/jpg", "image", "jpeg"),
        ("application/pdf", "document", "pdf"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "document", "docx"),
        ("text/markdown; charset=utf-8", "document", "md"),
        ("video/quicktime", "video", "mov"),
        ("video/3gpp", "video", "three_gp"),
    ],
)
def test_media_go_as_bytes(mime: str, kind: str, form: str) -> None:
    """Each type has its block and format; the bytes go as base64."""
    content, notices = content_of(lambda request: attach(request, mime_type=mime, data=b"\x00x"), NOVA)
    assert content[1][kind]["format"] == form
    assert content[1][kind]["source"] == {"bytes": "AHg="}
    assert notices == []


def test_media_at_s3_are_named_and_not_fetched() -> None:
    """The address goes as it is, with the bucket's owner where it is told; an ending tells a missing type."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        attach(request, uri="s3://bucket/a.MP4").provider_metadata_json = '{"bucketOwner":"123456789012"}'
        attach(request, uri="s3://bucket/key", mime_type="image/webp")

    content, notices = content_of(ask, NOVA)
    location = {"uri": "s3://bucket/a.MP4", "bucketOwner": "123456789012"}
    assert content[1] == {"video": {"format": "mp4", "source": {"s3Location": location}}}
    assert content[2]["image"]["source"] == {"s3Location": {"uri": "s3://bucket/key"}}
    assert notices == []


@pytest.mark.parametrize(
    ("media", "model"),
    [
        ({"mime_type": "image/png", "uri": "https://a.example/a.png"}, NOVA),
        ({"mime_type": "image/bmp", "data": b"x"}, NOVA),
        ({"mime_type": "image/png", "data": b""}, NOVA),
        ({"file_id": "file_1"}, NOVA),
        ({"mime_type": "image/png", "data": b"x"}, "amazon.nova-micro-v1:0"),
        ({"mime_type": "audio/wav", "data": b"x"}, SONNET_45),
        ({"mime_type": "video/mp4", "data": b"x"}, SONNET_45),
    ],
)
def test_media_that_nobody_takes_are_left_out_or_refused(media: Json, model: str) -> None:
    """Bedrock fetches nothing but from S3, and models take few kinds; a notice says so, or the request is refused."""
    content, notices = content_of(lambda request: attach(request, **media), model)
    assert content == [{"text": "hello"}]
    assert notices == [("BLOCK_DROPPED", "messages[0].content[1]")]
    refused = hello()
    refused.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    attach(refused, **media)
    with pytest.raises(UnsupportedOptionError):
        built(refused, model)


def test_documents_have_names_that_bedrock_takes() -> None:
    """Names lose their ending and what is refused, and no two are alike, so that the same chat has the same names."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        for name in ("Q3_report (final).pdf", "a/b/Q3-report (final).pdf", "  ", "", "ünï.pdf", "x" * 300 + ".pdf"):
            attach(request, mime_type="application/pdf", data=b"x", filename=name)

    content, _ = content_of(ask)
    names = [block["document"]["name"] for block in content[1:]]
    assert names == [
        "Q3-report (final)",
        "Q3-report (final) (2)",
        "document",
        "document (2)",
        "n",
        "x" * 190,
    ]


def test_a_document_comes_with_a_text() -> None:
    """Bedrock refuses a message of documents alone: words are put behind it, with a notice."""
    request = chat_pb2.ChatRequest()
    request.messages.add(role=USER)
    attach(request, mime_type="application/pdf", data=b"x")
    body, notices = built(request)
    assert [next(iter(block)) for block in body["messages"][0]["content"]] == ["document", "text"]
    assert notices == [("PARAM_DEFAULTED", "messages[0].content")]


def test_a_document_is_cited_from_where_that_is_asked() -> None:
    """Plain text goes as text then, since only so are its characters counted; a context goes with it."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        block = attach(request, mime_type="text/plain", data=b"facts", filename="f.txt", citations=True)
        block.provider_metadata_json = '{"context":"from a wiki"}'

    content, notices = content_of(ask)
    assert content[1]["document"] == {
        "name": "f",
        "format": "txt",
        "source": {"text": "facts"},
        "context": "from a wiki",
        "citations": {"enabled": True},
    }
    assert notices == []
    _, notices = content_of(ask, LLAMA)
    assert notices == [("PARAM_DROPPED", "messages[0].content[1].media.citations")]


def test_media_of_the_model_stay_behind() -> None:
    """Bedrock takes media only from the user."""
    request = hello()
    say(request, ASSISTANT, "look").content.add().media.CopyFrom(
        content_pb2.MediaBlock(mime_type="image/png", data=b"x")
    )
    body, notices = built(request)
    assert body["messages"][1]["content"] == [{"text": "look"}]
    assert notices == [("BLOCK_DROPPED", "messages[1].content[1]")]


# -- guardrails


def test_a_guardrail_looks_at_what_it_is_told_to() -> None:
    """Metadata turn a text into guardContent with its qualifiers; another family's or a result's text stays one."""

    def ask(request: chat_pb2.ChatRequest) -> None:
        for family in ("", "bedrock", "anthropic"):
            block = request.messages[0].content.add(family=family)
            block.text.text = "Tokyo is in Japan."
            block.provider_metadata_json = '{"guardContent":{"qualifiers":["grounding_source"]}}'
        image = attach(request, mime_type="image/png", data=b"x")
        image.provider_metadata_json = '{"guardContent":{}}'

    content, _ = content_of(ask)
    guarded = {"guardContent": {"text": {"text": "Tokyo is in Japan.", "qualifiers": ["grounding_source"]}}}
    assert content[1:4] == [guarded, guarded, {"text": "Tokyo is in Japan."}]
    assert content[4] == {"guardContent": {"image": {"format": "png", "source": {"bytes": "eA=="}}}}


def test_options_of_the_provider_are_merged_last() -> None:
    """What Converse knows and the contract does not goes through, objects key by key, and null takes away."""
    request = hello()
    request.sampling.max_output_tokens = 100
    request.sampling.temperature = 0.5
    options = {
        "guardrailConfig": {"guardrailIdentifier": "g1", "guardrailVersion": "1", "trace": "enabled"},
        "performanceConfig": {"latency": "optimized"},
        "promptVariables": {"name": {"text": "Ann"}},
        "requestMetadata": {"team": "backend"},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "inferenceConfig": {"temperature": None, "topP": 0.5},
    }
    request.provider_options.add(provider="bedrock", options_json=json.dumps(options))
    request.provider_options.add(provider="anthropic", options_json='{"top_k":1}')
    body, notices = built(request)
    del body["messages"]
    assert body == {**options, "inferenceConfig": {"maxTokens": 100, "topP": 0.5}}
    assert notices == []


# -- what stays behind


def test_reasoning_and_blocks_of_another_family_stay_behind() -> None:
    """Signatures, citations and what another provider ran itself mean nothing here; the words go through."""
    request = hello()
    answer = request.messages.add(role=ASSISTANT)
    thinking = answer.content.add(family="anthropic")
    thinking.thinking.text = "hm"
    thinking.states.add(kind="signature", data=b"sig")
    answer.content.add(family="openai").redacted_thinking.data = b"AAAA"
    words = answer.content.add(family="gemini")
    words.text.text = "It is so."
    words.states.add(kind="thought_signature", data=b"sig")
    words.citations.add(raw_json="{}")
    answer.content.add(family="openai").opaque.json = "{}"
    ran = answer.content.add(family="anthropic")
    ran.tool_call.call_id, ran.tool_call.name = "s1", "web_search"
    ran.tool_call.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    say(request, USER, "and?")
    body, notices = built(request)
    assert body["messages"][1]["content"] == [{"text": "It is so."}]
    assert notices == [
        ("STATE_DROPPED", "messages[1].content[0]"),
        ("STATE_DROPPED", "messages[1].content[1]"),
        ("STATE_DROPPED", "messages[1].content[2]"),
        ("BLOCK_DROPPED", "messages[1].content[3]"),
        ("BLOCK_DROPPED", "messages[1].content[4]"),
    ]


def test_what_has_no_place_is_told() -> None:
    """Names of participants, cache keys, other modalities and verbosity are dropped with a notice each."""
    request = hello()
    request.messages[0].name = "ann"
    request.cache.key = "k"
    request.cache.cached_content = "c"
    request.output_modalities.append(content_pb2.MODALITY_AUDIO)
    request.audio_output.voice = "alloy"
    request.output_format.verbosity = "low"
    request.output_format.json.SetInParent()
    _, notices = built(request)
    assert {field for _, field in notices} == {
        "messages[0].name",
        "cache.key",
        "cache.cached_content",
        "output_modalities",
        "audio_output",
        "output_format.verbosity",
        "output_format.json",
    }
