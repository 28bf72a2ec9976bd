"""Turns a body of generateContent back into the ChatRequest that says the same, for the tests of the request side."""

import base64
import json
import re
from typing import Any

from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]

FAMILY = "gemini"
#: Base64 that the recordings shortened is no base64; these bytes stand for it.
ELIDED = b"elided"

_MODALITIES = {
    "TEXT": content_pb2.MODALITY_TEXT,
    "IMAGE": content_pb2.MODALITY_IMAGE,
    "AUDIO": content_pb2.MODALITY_AUDIO,
}
_MODES = {
    "AUTO": chat_pb2.TOOL_CHOICE_MODE_AUTO,
    "ANY": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "NONE": chat_pb2.TOOL_CHOICE_MODE_NONE,
}
_SAMPLING = {
    "maxOutputTokens": "max_output_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "seed": "seed",
}
#: Keys whose values are the caller's own JSON.
_OPAQUE = frozenset({"args", "response", "parametersJsonSchema", "responseJsonSchema"})
#: Keys that stand beside a part's content.
_BESIDE = frozenset({"videoMetadata", "mediaResolution", "partMetadata"})
_TOOL_KEYS = frozenset({"functionDeclarations", "function_declarations"})


def camel(value: Any) -> Any:
    """Return a body with its own keys in camel case, which the API takes as well; null is what is not there."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, inner in value.items():
        if inner is None:
            continue
        name = re.sub(r"_([a-z])", lambda found: found[1].upper(), key)
        made[name] = inner if name in _OPAQUE else camel(inner)
    return made


def normal(body: Json) -> Json:
    """Return a body without the differences that say nothing; each is told where it is made."""
    body = camel({key: value for key, value in body.items() if key != "model"})  # the path names the model
    for content in [*body.get("contents", []), body.get("systemInstruction", {})]:
        content["parts"] = _parts_of(content)
        for part in content["parts"]:
            _normal_part(part)
    system = body.get("systemInstruction")
    if system is not None:
        system.pop("role", None)  # the API ignores it
    body["contents"] = [{"role": one.get("role", "user"), "parts": one["parts"]} for one in body["contents"]]
    config = body.get("generationConfig", {})
    if "topK" in config:  # written with a fraction of 0 by some
        config["topK"] = int(config["topK"])
    if "responseSchema" in config:  # OpenAPI's schema, sent as the JSON schema that it is
        config["responseJsonSchema"] = json_schema(config.pop("responseSchema"))
    if not config:
        body.pop("generationConfig", None)
    if "tools" in body:
        body["tools"] = _one_by_one(body["tools"])
    for tool in body.get("tools", []):
        for function in tool.get("functionDeclarations", []):
            if not function.get("description", True):  # the default
                del function["description"]
            if "parameters" in function:
                function["parametersJsonSchema"] = json_schema(function.pop("parameters"))
    return dict(body)


def _one_by_one(tools: list[Json]) -> list[Json]:
    """Return each tool on its own, and neighbouring functions in one list: how they are grouped says nothing."""
    made: list[Json] = []
    for kind, config in ((kind, config) for tool in tools for kind, config in tool.items()):
        if kind == "functionDeclarations" and made and kind in made[-1]:
            made[-1][kind] = made[-1][kind] + config
        else:
            made.append({kind: config})
    return made


def _parts_of(content: Json) -> list[Json]:
    parts = content.get("parts", [])
    return parts if isinstance(parts, list) else [parts]


def _normal_part(part: Json) -> None:
    if part.get("thought") is False:  # the default
        del part["thought"]
    if part.keys() <= {"thought", "thoughtSignature"}:  # a signature alone: sent back on an empty text
        part["text"] = ""
    if "ELIDED" in part.get("inlineData", {}).get("data", ""):
        part["inlineData"]["data"] = base64.b64encode(ELIDED).decode()


def json_schema(schema: Any) -> Any:
    """Return OpenAPI's schema as a JSON schema: only the types are written otherwise."""
    if isinstance(schema, list):
        return [json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else json_schema(value)
        for key, value in schema.items()
    }


def chat_request(body: Json) -> chat_pb2.ChatRequest:
    """Return the request that says what a normal body says."""
    return _Reverse(body).request


class _Reverse:
    def __init__(self, body: Json) -> None:
        self.request = chat_pb2.ChatRequest()
        self._options: Json = {}
        self._waiting: list[tuple[str, str]] = []
        self._calls = 0
        rest = dict(body)
        for part in rest.pop("systemInstruction", {}).get("parts", []):
            self.request.system.append(self._block(part, ""))
        for content in rest.pop("contents"):
            role = content["role"]
            message = self.request.messages.add(
                role=content_pb2.ROLE_ASSISTANT if role == "model" else content_pb2.ROLE_USER
            )
            message.content.extend(self._block(part, FAMILY if role == "model" else "") for part in content["parts"])
        for tool in rest.pop("tools", []):
            self._tool(tool)
        self._tool_config(rest.pop("toolConfig", {}))
        self._generation(rest.pop("generationConfig", {}))
        self.request.cache.cached_content = rest.pop("cachedContent", "")
        self._options.update(rest)
        if self._options:
            self.request.provider_options.add(provider=FAMILY, options_json=json.dumps(self._options))

    def _block(self, part: Json, family: str) -> content_pb2.ContentBlock:
        block = content_pb2.ContentBlock(family=family)
        if "thoughtSignature" in part:
            block.states.add(kind="thought_signature", data=part["thoughtSignature"].encode())
        if "functionCall" in part:
            self._call(block, part["functionCall"])
        elif "functionResponse" in part:
            self._result(block, part["functionResponse"])
        elif "inlineData" in part:
            block.media.mime_type = part["inlineData"]["mimeType"]
            block.media.data = base64.b64decode(part["inlineData"]["data"])
        elif "fileData" in part:
            block.media.mime_type = part["fileData"].get("mimeType", "")
            block.media.uri = part["fileData"]["fileUri"]
        elif "executableCode" in part:
            block.tool_call.call_id_minted = True
            block.tool_call.arguments_json = json.dumps(part["executableCode"])
            block.tool_call.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
            block.tool_call.provider_type = "executableCode"
        elif "codeExecutionResult" in part:
            block.tool_result.structured_content_json = json.dumps(part["codeExecutionResult"])
            block.tool_result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
            block.tool_result.provider_type = "codeExecutionResult"
        elif part.get("thought"):
            block.thinking.text = part.get("text", "")
        else:
            block.text.text = part["text"]
            block.text.SetInParent()
        rest = {key: value for key, value in part.items() if key in _BESIDE}
        if rest:
            block.family = FAMILY
            block.provider_metadata_json = json.dumps(rest)
        return block

    def _call(self, block: content_pb2.ContentBlock, call: Json) -> None:
        self._calls += 1
        block.tool_call.name = call["name"]
        block.tool_call.call_id = call.get("id") or f"minted-{self._calls}"
        block.tool_call.call_id_minted = "id" not in call
        if "args" in call:
            block.tool_call.arguments_json = json.dumps(call["args"])
        self._waiting.append((call["name"], block.tool_call.call_id))

    def _result(self, block: content_pb2.ContentBlock, response: Json) -> None:
        name = response["name"]
        call = next((one for one in self._waiting if response.get("id", one[1]) == one[1] and one[0] == name), None)
        if call is not None:
            self._waiting.remove(call)
        block.tool_result.name = name
        block.tool_result.call_id = call[1] if call else name
        block.tool_result.structured_content_json = json.dumps(response["response"])

    def _tool(self, tool: Json) -> None:
        for kind, config in tool.items():
            if kind not in _TOOL_KEYS:
                self.request.tools.add(provider=chat_pb2.ProviderTool(type=kind, config_json=json.dumps(config)))
                continue
            for declared in config:
                function = dict(declared)
                made = self.request.tools.add()
                made.function.name = function.pop("name")
                made.function.description = function.pop("description", "")
                if "parametersJsonSchema" in function:
                    made.function.parameters_json = json.dumps(function.pop("parametersJsonSchema"))
                if function:
                    made.provider_options_json = json.dumps(function)

    def _tool_config(self, config: Json) -> None:
        rest = dict(config)
        calling = rest.pop("functionCallingConfig", {})
        if calling.get("mode") in _MODES:
            self.request.tool_choice.mode = _MODES[calling["mode"]]
            self.request.tool_choice.allowed_names.extend(calling.get("allowedFunctionNames", []))
        elif calling:
            rest["functionCallingConfig"] = calling
        if rest:
            self._options["toolConfig"] = rest

    def _generation(self, config: Json) -> None:
        rest = dict(config)
        for key, field in _SAMPLING.items():
            if key in rest:
                setattr(self.request.sampling, field, rest.pop(key))
        self.request.sampling.stop_sequences.extend(rest.pop("stopSequences", []))
        if rest.pop("responseLogprobs", False):
            self.request.sampling.logprobs = True
        self.request.output_modalities.extend(_MODALITIES[one] for one in rest.pop("responseModalities", []))
        self._format(rest)
        self._thinking(rest.pop("thinkingConfig", {}))
        if rest:
            self._options["generationConfig"] = rest

    def _format(self, rest: Json) -> None:
        if rest.get("responseMimeType") == "application/json":
            del rest["responseMimeType"]
            self.request.output_format.json.SetInParent()
        if "responseJsonSchema" in rest:
            self.request.output_format.json_schema.schema_json = json.dumps(rest.pop("responseJsonSchema"))

    def _thinking(self, config: Json) -> None:
        reasoning = self.request.reasoning
        if config.get("includeThoughts"):
            reasoning.display = chat_pb2.REASONING_DISPLAY_SUMMARY
        elif "includeThoughts" in config:
            reasoning.display = chat_pb2.REASONING_DISPLAY_OMITTED
        if config.get("thinkingBudget") == 0:
            reasoning.enabled = False
        elif "thinkingBudget" in config:
            reasoning.budget_tokens = config["thinkingBudget"]
        reasoning.effort = config.get("thinkingLevel", "")
