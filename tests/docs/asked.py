"""What can be asked: for each field of a chat a request that has it, beside one that has not."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["BLOCK_FIELDS", "LOST_BY_NOBODY", "NOT_SENT", "REQUEST_FIELDS", "SAMPLES", "request_of"]

Json = dict[str, Any]
#: Two requests, of which the second has the field.
Sample = tuple[Json, Json]

_WHOLE = {"ContentBlock", "Citation", "OpaqueState"}


def fields_of(descriptor: Descriptor, before: str = "") -> Iterator[str]:
    """Yield the paths of a message's fields, those of the messages in it among them; a block is one field."""
    for field in descriptor.fields:
        path, inner = before + field.name, field.message_type
        if inner is not None and inner.fields and not _is_one(inner):
            yield from fields_of(inner, f"{path}.")
        else:
            yield path


def _is_one(message: Descriptor) -> bool:
    """Tell whether a message is one value rather than several fields."""
    return message.name in _WHOLE or message.GetOptions().map_entry or message.full_name.startswith("google.")


REQUEST_FIELDS = tuple(fields_of(chat_pb2.ChatRequest.DESCRIPTOR))
BLOCK_FIELDS = tuple(fields_of(content_pb2.ContentBlock.DESCRIPTOR))

#: Fields that are the platform's: no provider is told of them. The list of providers says so.
NOT_SENT = {
    *(path for path in REQUEST_FIELDS if path.split(".")[0] in {"request_id", "persona", "routing"}),
    *("unsupported_options", "stream_options.provider_events", "context.session_id", "context.labels"),
    *("index", "family", "media.transcript"),
}

#: Fields that may change neither what a provider is sent nor the notices, and why no caller loses anything.
LOST_BY_NOBODY = {
    **dict.fromkeys(
        ("audio_output.format", "tools.mcp_server.authorization_token", "tools.mcp_server.allowed_tools"),
        "dropped with what it belongs to, which has the notice",
    ),
    "tools.mcp_server.config_json": "dropped with its server, which has the notice",
    "output_format.text": "what every provider does anyway",
    "output_format.json_schema.name": "the contract: it only names the format",
    "context.end_user_id": "the contract: for providers that ask for one, and for no other",
    "tools.provider.name": "the contract: where the provider's format has one",
    "provider_metadata_json": "the contract: where the provider's format has a place for it",
    "thinking.is_summary": "tells the caller about an answer; the text is the same",
    **dict.fromkeys(("id", "citations"), "tell the caller about an answer; not every format takes them back"),
    **dict.fromkeys(
        ("tool_call.provider_type", "tool_call.call_id_minted", "tool_result.provider_type"),
        "tell the form of a call or result, of which a format may have only one",
    ),
    **dict.fromkeys(("tool_result.call_id", "tool_result.name"), "find the call, and are not told where it is known"),
}

_HI = {"text": {"text": "Hi"}}
_ASKED: Json = {"role": "ROLE_USER", "content": [_HI]}
_SCHEMA = json.dumps({"type": "object", "properties": {"city": {"type": "string"}}})
_TOOL: Json = {"function": {"name": "weather"}}
_SEARCH: Json = {"provider": {"type": "web_search"}}
_MCP: Json = {"mcpServer": {"name": "files", "url": "https://mcp.example"}}
_CALL: Json = {"callId": "call_1", "name": "weather", "argumentsJson": "{}"}
_PNG = "iVBORw0KGgo="
_PDF = "JVBERi0xLjQ="


def _said(*blocks: Json) -> Json:
    return {"messages": [{"role": "ROLE_USER", "content": [_HI, *blocks]}]}


def _answered(*blocks: Json) -> Json:
    return {"messages": [_ASKED, {"role": "ROLE_ASSISTANT", "content": [_HI, *blocks]}, _ASKED]}


def _called(call: Json, *, result: Json | None = None, **block: Any) -> Json:
    """A call with its result. By keyword: further members of the block that calls."""
    told = {"toolResult": {"callId": call["callId"], "content": [_HI]} if result is None else result}
    calling: Json = {"role": "ROLE_ASSISTANT", "content": [{"toolCall": call, **block}]}
    return {"messages": [_ASKED, calling, {"role": "ROLE_USER", "content": [told]}]}


def _result(**members: Any) -> Json:
    return _called(_CALL, result={"callId": "call_1", **members})


def _given(**block: Any) -> Json:
    return _said({"toolResult": {"callId": "call_1", "content": [_HI]}, **block})


def _tools(*tools: Json, **rest: Any) -> Json:
    return {"tools": list(tools), **rest}


def _changed(first: Json, **second: Any) -> Json:
    return first | second


_BASE: Json = {}
_IMAGE: Json = {"media": {"mimeType": "image/png", "data": _PNG}}
_DOCUMENT: Json = {"media": {"mimeType": "application/pdf", "data": _PDF}}
_NONE = [_called(_CALL)]


def _media(kind: str, **source: str) -> Json:
    return _said({"media": {"mimeType": kind, **source}})


def _with(block: Json, **media: Any) -> Sample:
    return _said(block), _said({"media": block["media"] | media})


def _own(**content: Any) -> Json:
    return {"family": "OWN", **content}


def _foreign(**content: Any) -> Json:
    return {"family": "elsewhere", **content}


_STATE = [{"kind": "signature", "data": "c2lnbg=="}]
_CITED = [{"providerType": "page", "rawJson": '{"type": "page_location"}'}]
_RAN: Json = {**_CALL, "executedBy": "TOOL_EXECUTOR_PROVIDER"}
_GIVEN: Json = {"callId": "call_1", "structuredContentJson": "{}", "executedBy": "TOOL_EXECUTOR_PROVIDER"}
_WROTE: Json = {"callId": "call_1", "name": "weather", "argumentsText": "Bern"}
_MODES = ("AUTO", "NONE", "REQUIRED")


def _choice(**choice: Any) -> Json:
    return _tools(_TOOL, {"function": {"name": "time"}}, toolChoice=choice)


_SEVERAL = _tools(_TOOL, {"function": {"name": "time"}})

#: By the path of the field. OWN stands for the family of whoever is asked.
SAMPLES: Mapping[str, list[Sample]] = {
    "model": [],
    "system": [(_BASE, {"system": [_HI]}), (_BASE, {"system": [_HI, _HI]})],
    "messages.role": [
        (_BASE, {"messages": [_ASKED, {**_ASKED, "role": role}, _ASKED]}) for role in ("ROLE_ASSISTANT", "ROLE_SYSTEM")
    ],
    "messages.content": [(_BASE, _said(_HI))],
    "messages.name": [(_BASE, {"messages": [{**_ASKED, "name": "Ada"}]})],
    "tools.function.name": [(_BASE, _tools(_TOOL))],
    "tools.function.description": [
        (_tools(_TOOL), _tools({"function": {"name": "weather", "description": "Tells the weather."}}))
    ],
    "tools.function.parameters_json": [
        (_tools(_TOOL), _tools({"function": {"name": "weather", "parametersJson": _SCHEMA}}))
    ],
    "tools.function.strict": [(_tools(_TOOL), _tools({"function": {"name": "weather", "strict": True}}))],
    "tools.provider.family": [
        (_tools(_TOOL), _tools(_TOOL, {"provider": {"family": family, "type": "web_search"}}))
        for family in ("OWN", "elsewhere")
    ],
    "tools.provider.type": [
        (_BASE, _tools(_SEARCH)),
        (_tools(_TOOL), _tools(_TOOL, {"provider": {"type": "custom", "name": "free"}})),
    ],
    "tools.provider.name": [(_tools(_SEARCH), _tools({"provider": {**_SEARCH["provider"], "name": "search"}}))],
    "tools.provider.config_json": [
        (_tools(_SEARCH), _tools({"provider": {**_SEARCH["provider"], "configJson": '{"max_uses": 2}'}}))
    ],
    "tools.mcp_server.name": [(_tools(_TOOL), _tools(_TOOL, _MCP))],
    "tools.mcp_server.url": [(_tools(_TOOL), _tools(_TOOL, _MCP))],
    "tools.mcp_server.authorization_token": [
        (_tools(_MCP), _tools({"mcpServer": {**_MCP["mcpServer"], "authorizationToken": "made-up"}}))
    ],
    "tools.mcp_server.allowed_tools": [
        (_tools(_MCP), _tools({"mcpServer": {**_MCP["mcpServer"], "allowedTools": ["read"]}}))
    ],
    "tools.mcp_server.config_json": [
        (_tools(_MCP), _tools({"mcpServer": {**_MCP["mcpServer"], "configJson": '{"x_more": 1}'}}))
    ],
    "tools.cache_hint.ttl": [
        (_tools(_TOOL), _tools({**_TOOL, "cacheHint": {}})),
        (_tools(_TOOL), _tools({**_TOOL, "cacheHint": {"ttl": "3600s"}})),
        (_tools(_TOOL), _tools({**_TOOL, "cacheHint": {"ttl": "77s"}})),
    ],
    "tools.provider_options_json": [(_tools(_TOOL), _tools({**_TOOL, "providerOptionsJson": '{"x_more": 1}'}))],
    "tool_choice.mode": [(_SEVERAL, _choice(mode=f"TOOL_CHOICE_MODE_{mode}")) for mode in _MODES]
    + [(_SEVERAL, _choice(mode="TOOL_CHOICE_MODE_NAMED", name="time"))],
    "tool_choice.name": [(_SEVERAL, _choice(mode="TOOL_CHOICE_MODE_NAMED", name="time"))],
    "tool_choice.allowed_names": [(_SEVERAL, _choice(allowedNames=["time"]))],
    "parallel_tool_calls": [
        (_tools(_TOOL), _tools(_TOOL, parallelToolCalls=False)),
        (_tools(_TOOL), _tools(_TOOL, parallelToolCalls=True)),
    ],
    "sampling.max_output_tokens": [
        (_BASE, {"sampling": {"maxOutputTokens": "100"}}),
        (_BASE, {"sampling": {"maxOutputTokens": "9000000"}}),
    ],
    "sampling.temperature": [
        (_BASE, {"sampling": {"temperature": 0.5}}),
        (_BASE, {"sampling": {"temperature": 1.5}}),
        ({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": True}, "sampling": {"temperature": 0.5}}),
    ],
    "sampling.top_p": [
        (_BASE, {"sampling": {"topP": 0.5}}),
        ({"sampling": {"temperature": 0.5}}, {"sampling": {"temperature": 0.5, "topP": 0.5}}),
    ],
    "sampling.top_k": [(_BASE, {"sampling": {"topK": "5"}})],
    "sampling.frequency_penalty": [(_BASE, {"sampling": {"frequencyPenalty": 0.5}})],
    "sampling.presence_penalty": [(_BASE, {"sampling": {"presencePenalty": 0.5}})],
    "sampling.seed": [(_BASE, {"sampling": {"seed": "7"}}), (_BASE, {"sampling": {"seed": "70000000000"}})],
    "sampling.stop_sequences": [(_BASE, {"sampling": {"stopSequences": ["END"]}})],
    "sampling.logprobs": [(_BASE, {"sampling": {"logprobs": True}})],
    "sampling.top_logprobs": [(_BASE, {"sampling": {"topLogprobs": 3}})],
    "sampling.logit_bias": [(_BASE, {"sampling": {"logitBias": {"5": 1.0}}})],
    "reasoning.enabled": [(_BASE, {"reasoning": {"enabled": enabled}}) for enabled in (True, False)],
    "reasoning.effort": [(_BASE, {"reasoning": {"effort": effort}}) for effort in ("minimal", "low", "high", "max")]
    + [({"reasoning": {"budgetTokens": "2000"}}, {"reasoning": {"budgetTokens": "2000", "effort": "high"}})],
    "reasoning.budget_tokens": [
        (_BASE, {"reasoning": {"budgetTokens": tokens}}) for tokens in ("0", "2000", "9000000")
    ],
    "reasoning.display": [
        ({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": True, "display": f"REASONING_DISPLAY_{display}"}})
        for display in ("OMITTED", "SUMMARY", "DETAILED_SUMMARY")
    ]
    + [(_BASE, {"reasoning": {"display": "REASONING_DISPLAY_SUMMARY"}})],
    "output_format.text": [(_BASE, {"outputFormat": {"text": {}}})],
    "output_format.json": [(_BASE, {"outputFormat": {"json": {}}})],
    **{
        f"output_format.json_schema.{name}": [
            (
                {"outputFormat": {"jsonSchema": {"schemaJson": _SCHEMA}}} if more else _BASE,
                {"outputFormat": {"jsonSchema": {"schemaJson": _SCHEMA, **more}}},
            )
            for more in members
        ]
        for name, members in {
            "schema_json": [Json()],
            "name": [{"name": "place"}],
            "description": [{"description": "Where."}],
            "strict": [{"strict": True}, {"strict": False}],
        }.items()
    },
    "output_format.verbosity": [(_BASE, {"outputFormat": {"verbosity": "low"}})],
    "output_modalities": [
        (_BASE, {"outputModalities": [f"MODALITY_{kind}"]}) for kind in ("TEXT", "AUDIO", "IMAGE", "DOCUMENT")
    ],
    "audio_output.voice": [(_BASE, {"audioOutput": {"voice": "alloy"}})],
    "audio_output.format": [
        ({"audioOutput": {"voice": "alloy"}}, {"audioOutput": {"voice": "alloy", "format": "mp3"}})
    ],
    "cache.automatic": [(_BASE, {"cache": {"automatic": automatic}}) for automatic in (True, False)],
    "cache.ttl": [
        ({"cache": {"automatic": True}}, {"cache": {"automatic": True, "ttl": ttl}})
        for ttl in ("1800s", "3600s", "77s")
    ]
    + [(_BASE, {"cache": {"ttl": "86400s"}})],
    "cache.key": [(_BASE, {"cache": {"key": "team"}})],
    "cache.cached_content": [(_BASE, {"cache": {"cachedContent": "cachedContents/abc"}})],
    "service_tier": [(_BASE, {"serviceTier": "flex"})],
    "context.end_user_id": [(_BASE, {"context": {"endUserId": "u-1"}})],
    "provider_options.provider": [],
    "provider_options.options_json": [
        (_BASE, {"providerOptions": [{"provider": "OWN", "optionsJson": '{"x_more": 1}'}]})
    ],
    # --- blocks
    "id": [(_answered(_own(text={"text": "A"})), _answered(_own(id="b_1", text={"text": "A"})))],
    "cache_hint.ttl": [
        (_said(), _said({**_HI, "cacheHint": {"ttl": ttl}}) if ttl else _said({**_HI, "cacheHint": {}}))
        for ttl in ("", "300s", "77s")
    ]
    + [(_answered(), _answered({**_HI, "cacheHint": {}}))]
    + [(_called(_CALL), _called(_CALL, cacheHint={}))]
    + [(_given(), _given(cacheHint={}))]
    + [
        (
            _answered(_own(thinking={"text": "Hm"}, states=_STATE)),
            _answered(_own(thinking={"text": "Hm"}, states=_STATE, cacheHint={})),
        )
    ],
    "citations": [
        (_answered(_own(text={"text": "A"})), _answered(_own(text={"text": "A"}, citations=_CITED))),
        (_answered(_foreign(text={"text": "A"})), _answered(_foreign(text={"text": "A"}, citations=_CITED))),
    ],
    "states": [
        (_answered(make(text={"text": "A"})), _answered(make(text={"text": "A"}, states=states)))
        for make in (_own, _foreign)
        for states in (_STATE, [{"kind": "thought_signature", "data": "c2lnbg=="}])
    ]
    + [
        (_answered(_own(thinking={"text": "Hm"})), _answered(_own(thinking={"text": "Hm"}, states=[state])))
        for state in (*_STATE, {"kind": "encrypted_content", "data": "c2lnbg=="})
    ],
    "provider_metadata_json": [
        (
            _called(_CALL, family="OWN"),
            _called(_CALL, family="OWN", providerMetadataJson='{"caller": {"type": "direct"}}'),
        ),
    ],
    "text.text": [(_BASE, _said({"text": {"text": "More"}})), (_BASE, _said({"text": {"text": ""}}))],
    "media.mime_type": [
        (_said(), _media(kind, data=_PDF))
        for kind in ("image/png", "application/pdf", "text/plain", "text/csv", "audio/wav", "audio/ogg", "video/mp4")
    ],
    "media.data": [(_said(), _said(_IMAGE)), (_said(), _said(_DOCUMENT))],
    "media.uri": [
        (_said(), _media(kind, uri=f"https://files.example/a.{end}"))
        for kind, end in (("image/png", "png"), ("application/pdf", "pdf"), ("audio/wav", "wav"), ("video/mp4", "mp4"))
    ],
    "media.file_id": [(_said(), _media(kind, fileId="files/abc")) for kind in ("image/png", "application/pdf")],
    "media.filename": [_with(_DOCUMENT, filename="a.pdf")],
    "media.detail": [_with(_IMAGE, detail=detail) for detail in ("high", "auto", "no-such-detail")],
    "media.citations": [_with(_DOCUMENT, citations=True)],
    "thinking.text": [
        (_answered(), _answered(block))
        for block in (
            _own(thinking={"text": "Hm"}, states=_STATE),
            _own(thinking={"text": "Hm"}, states=[{"kind": "encrypted_content", "data": "c2lnbg=="}]),
            _own(thinking={"text": "Hm"}),
            {"thinking": {"text": "Hm"}},
            _foreign(thinking={"text": "Hm"}),
        )
    ],
    "thinking.is_summary": [
        (
            _answered(_own(thinking={"text": "Hm"}, states=states)),
            _answered(_own(thinking={"text": "Hm", "isSummary": True}, states=states)),
        )
        for states in (_STATE, [{"kind": "encrypted_content", "data": "c2lnbg=="}])
    ],
    "redacted_thinking.data": [
        (_answered(), _answered(make(redactedThinking={"data": "c2lnbg=="}))) for make in (_own, _foreign)
    ],
    "tool_call.call_id": [(_BASE, _called(_CALL)), (_BASE, _called({**_CALL, "callId": "call:1"}))],
    "tool_call.name": [(_called(_CALL), _called({**_CALL, "name": "time"}))],
    "tool_call.arguments_json": [(_called(_CALL), _called({**_CALL, "argumentsJson": '{"city": "Bern"}'}))],
    "tool_call.arguments_text": [(_called(_CALL), _called(_WROTE))],
    "tool_call.executed_by": [
        (_answered(), _answered({"toolCall": _RAN, "family": family})) for family in ("OWN", "elsewhere")
    ],
    "tool_call.provider_type": [
        (
            _answered(_own(toolCall=_RAN), _own(toolResult=_GIVEN)),
            _answered(
                _own(toolCall={**_RAN, "providerType": kind}),
                _own(toolResult={**_GIVEN, "providerType": kind}),
            ),
        )
        for kind in ("server_tool_use", "toolCall", "web_search_call")
    ],
    "tool_call.call_id_minted": [
        (_called(_CALL, family="OWN"), _called({**_CALL, "callIdMinted": True}, family="OWN")),
    ],
    "tool_result.call_id": [(_called(_CALL), _called({**_CALL, "callId": "call_2"}))],
    "tool_result.name": [
        (
            _said({"toolResult": {"callId": "call_1", "content": [_HI]}}),
            _said({"toolResult": {"callId": "call_1", "name": "weather", "content": [_HI]}}),
        )
    ],
    "tool_result.content": [
        (_result(), _result(content=[block]))
        for block in ({"text": {"text": "More"}}, _IMAGE, {"thinking": {"text": "?"}})
    ],
    "tool_result.structured_content_json": [
        (_result(), _result(structuredContentJson='{"degrees": 18}')),
        (_result(content=[_HI]), _result(content=[_HI], structuredContentJson='{"degrees": 18}')),
    ],
    "tool_result.is_error": [(_result(content=[_HI]), _result(content=[_HI], isError=True))],
    "tool_result.executed_by": [
        (_answered(), _answered({"toolResult": _GIVEN, "family": family})) for family in ("OWN", "elsewhere")
    ],
    "tool_result.provider_type": [
        (
            _answered(_own(toolCall=_RAN), _own(toolResult=_GIVEN)),
            _answered(_own(toolCall=_RAN), _own(toolResult={**_GIVEN, "providerType": kind})),
        )
        for kind in ("web_search_tool_result", "codeExecutionResult", "web_search_call")
    ],
    "refusal.text": [
        (_answered(), _answered({"refusal": {"text": "No."}})),
        (_said(), _said({"refusal": {"text": "No."}})),
    ],
    "opaque.type": [],
    "opaque.json": [
        (_answered(), _answered(make(opaque={"type": "new", "json": '{"type": "new"}'}))) for make in (_own, _foreign)
    ],
}


def request_of(sample: Json, family: str) -> chat_pb2.ChatRequest:
    """Return a sample as a request to a family."""
    return _parsed(json.dumps({"messages": [_ASKED], **sample}).replace('"OWN"', json.dumps(family)))


@functools.cache
def _parsed(text: str) -> chat_pb2.ChatRequest:
    return json_format.Parse(text, chat_pb2.ChatRequest())
