"""How each provider is asked: what a chat becomes on the wire, and the notices that it gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from execution_platform.adapters.anthropic import models as anthropic_models
from execution_platform.adapters.anthropic import request as anthropic_request
from execution_platform.adapters.bedrock import families as bedrock_families
from execution_platform.adapters.bedrock import request as bedrock_request
from execution_platform.adapters.compatible.rows import ROWS
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.gemini import models as gemini_models
from execution_platform.adapters.gemini import request as gemini_request
from execution_platform.adapters.local.adapter import DIALECT as LOCAL
from execution_platform.adapters.openai.models import DIALECT as OPENAI
from execution_platform.adapters.openai.models import KNOWN_MODELS
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.responses.request import build_responses
from execution_platform.adapters.scripted import ScriptedAdapter
from execution_platform.adapters.spi import Call, KnownModel
from execution_platform.v1 import chat_pb2

__all__ = ["ASKERS", "Asked", "Asker"]

Notices = frozenset[tuple[str, str]]
#: Returns a request's body as it goes out, and its notices.
Build = Callable[[Call], tuple[bytes, list[chat_pb2.Notice]]]

UNKNOWN = "a-model-that-nobody-knows"


@dataclass(frozen=True)
class Asked:
    """A request on the wire: its body, decoded, and its notices by code and field."""

    body: Any
    notices: Notices


@dataclass(frozen=True)
class Asker:
    """A way of asking one model.

    Attributes:
        family: whose blocks are its own.
        model: the model's name.
        build: makes the request.
    """

    family: str
    model: str
    build: Build

    def ask(self, request: chat_pb2.ChatRequest) -> Asked | None:
        """Return what goes out; None: the request is refused as not valid."""
        try:
            body, notices = self.build(Call(request, self.model, request_id="chat-1"))
        except InvalidRequestError:
            return None
        told = ((chat_pb2.NoticeCode.Name(one.code).removeprefix("NOTICE_CODE_"), one.field) for one in notices)
        return Asked(json.loads(body), frozenset(told))


def _anthropic(call: Call) -> tuple[bytes, list[chat_pb2.Notice]]:
    wire = anthropic_request.build_request(call, "anthropic")
    return wire.body, list(wire.notices)


def _bedrock(call: Call) -> tuple[bytes, list[chat_pb2.Notice]]:
    wire = bedrock_request.build_request(call, "bedrock", "eu-central-1")
    return wire.body, list(wire.notices)


def _gemini(call: Call) -> tuple[bytes, list[chat_pb2.Notice]]:
    wire = gemini_request.build_request(call)
    return wire.body, wire.notices.items


def _chat(dialect: Dialect, call: Call) -> tuple[bytes, list[chat_pb2.Notice]]:
    wire = build_chat(call, dialect)
    return wire.body, list(wire.notices)


def _responses(dialect: Dialect, call: Call) -> tuple[bytes, list[chat_pb2.Notice]]:
    wire = build_responses(call, dialect)
    return wire.body, list(wire.notices)


def _scripted(call: Call) -> tuple[bytes, list[chat_pb2.Notice]]:
    async def run() -> list[chat_pb2.Notice]:
        async with aclosing(ScriptedAdapter().stream(call)) as lists:
            return [event.notice async for events in lists for event in events if event.HasField("notice")]

    return b"{}", asyncio.run(run())


def _spoken(dialect: Dialect, models: list[str]) -> Iterator[tuple[str, Dialect]]:
    """Yield models with how each is spoken to; of those that are spoken to alike only the first."""
    alike: list[Dialect] = []
    for model in models:
        spoken = dialect.for_model(model)
        if spoken not in alike:
            alike.append(spoken)
            yield model, spoken


def _claudes() -> Iterator[Asker]:
    """Yield the known models of Anthropic; of those that take the same only the first."""
    alike: list[anthropic_models.ModelFacts] = []
    for facts in (anthropic_models.UNLISTED, *anthropic_models._FACTS):
        taken = replace(facts, known=KnownModel("", max_output_tokens=facts.known.max_output_tokens))
        if taken not in alike:
            alike.append(taken)
            yield Asker("anthropic", facts.known.name or UNKNOWN, _anthropic)


def _speakers() -> Iterator[Asker]:
    """Yield everybody who speaks Chat Completions."""
    for dialect in (LOCAL, *(row.dialect for row in ROWS)):
        patterns = [pattern.replace("*", "") for rule in dialect.rules for pattern in rule.models]
        for model, spoken in _spoken(dialect, [UNKNOWN, *patterns]):
            yield Asker(dialect.family, model, partial(_chat, spoken))
    for model, spoken in _spoken(OPENAI, [UNKNOWN, *(known.name for known in KNOWN_MODELS)]):
        yield Asker(OPENAI.family, model, partial(_chat, spoken))


def _openai() -> Iterator[Asker]:
    """Yield the models of OpenAI that are spoken to through Responses."""
    for model, spoken in _spoken(OPENAI, [UNKNOWN, *(known.name for known in KNOWN_MODELS)]):
        if spoken.api == "responses":
            yield Asker(OPENAI.family, model, partial(_responses, spoken))


#: By the page that tells it.
ASKERS: dict[str, list[Asker]] = {
    "anthropic": list(_claudes()),
    "bedrock": [
        Asker("bedrock", name, _bedrock) for name in (UNKNOWN, *(facts.stem for facts in bedrock_families.FAMILIES))
    ],
    "gemini": [
        Asker("gemini", name, _gemini)
        for name in (UNKNOWN, "gemini-2.0-flash", *(known.name for known in gemini_models.MODELS))
    ],
    "openai": list(_openai()),
    "openai-compatible": list(_speakers()),
    "scripted": [Asker("scripted", "echo", _scripted)],
}
