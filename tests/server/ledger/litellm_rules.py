"""What an answer costs by LiteLLM's public prices and rules: read from the provider's own JSON, with no code of ours.

The prices are facts carried over from LiteLLM's table (`litellm_prices.json` says which release). Its rules, as its
calculator applies them: cached tokens are taken out of the prompt and charged apart, tokens written to a cache at their
price by lifetime; a prompt beyond a threshold has all of its tokens charged at that threshold's prices; reasoning and
media at their own price where there is one, else at that of the answer; a service tier has prices of its own, else the
ordinary ones; searches are charged a call; what several models used within an answer is charged at the price of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Json = dict[str, Any]

TABLE: Json = json.loads((Path(__file__).parent / "litellm_prices.json").read_text())
MODELS: dict[str, Json] = TABLE["models"]

#: How LiteLLM names the models of a vendor.
PREFIXES = {
    "anthropic": "",
    "azure": "azure/",
    "bedrock-mantle": "",
    "deepseek": "deepseek/",
    "gemini": "gemini/",
    "groq": "groq/",
    "mistral": "mistral/",
    "openai": "",
    "perplexity": "perplexity/",
    "snowflake": "snowflake/",
    "together": "together_ai/",
    "xai": "xai/",
    "zai": "zai/",
}

#: LiteLLM counts a prompt that is exactly as long as the threshold for a long one here.
INCLUSIVE = {"xai"}


#: Events with which an answer ends. Some recordings have another one behind it.
_ENDS = {"message_stop", "response.completed", "response.incomplete", "response.failed"}


@dataclass(slots=True)
class Told:
    """What a provider tells of an answer, as far as it is charged for."""

    model: str = ""
    prompt: int = 0
    cached: int = 0
    written: dict[str, int] = field(default_factory=dict)
    prompt_media: dict[str, int] = field(default_factory=dict)
    cached_media: dict[str, int] = field(default_factory=dict)
    answer: int = 0
    reasoning: int = 0
    answer_media: dict[str, int] = field(default_factory=dict)
    searches: int = 0
    file_searches: int = 0
    tier: str = ""
    geo: str = ""


def told_by(record: Json, body: bytes) -> Told | None:
    """Return what an answer says of itself; None: it tells no usage."""
    objects = list(_objects(body))
    reader = {"messages": _anthropic, "generateContent": _gemini, "streamGenerateContent": _gemini}.get(record["api"])
    told = reader(objects) if reader is not None else _openai(objects)
    if told is not None and record["vendor"] == "deepseek" and not told.cached:
        told.cached = int(_last_usage(objects).get("prompt_cache_hit_tokens") or 0)
    return told


def cost_of(vendor: str, told: Told, names: list[str]) -> tuple[Decimal | None, str]:
    """Return what an answer costs in US dollars, and the name of its model; None: the table does not have it."""
    prefix = PREFIXES.get(vendor)
    name = next((f"{prefix}{each}" for each in names if prefix is not None and f"{prefix}{each}" in MODELS), "")
    if not name:
        return None, names[0] if names else ""
    return _priced(vendor, told, MODELS[name]), name


def _priced(vendor: str, told: Told, info: Json) -> Decimal:
    prices = _Prices(info, told, inclusive=vendor in INCLUSIVE)
    media_in, media_cached = sum(told.prompt_media.values()), sum(told.cached_media.values())
    text = max(0, told.prompt - told.cached - sum(told.written.values()) - media_in)
    ordinary_in, ordinary_out = prices.of("input_cost_per_token"), prices.of("output_cost_per_token")
    read = prices.of("cache_read_input_token_cost", ordinary_in)
    total = text * ordinary_in + (told.cached - media_cached) * read
    for kind, tokens in told.cached_media.items():
        total += tokens * prices.of(f"cache_read_input_{kind}_token_cost", read)
    write = prices.of("cache_creation_input_token_cost", ordinary_in)
    for ttl, tokens in told.written.items():
        total += tokens * (prices.of("cache_creation_input_token_cost_above_1hr", write) if ttl == "1h" else write)
    for kind, tokens in told.prompt_media.items():
        total += tokens * prices.of(f"input_cost_per_{kind}_token", ordinary_in)
    spoken = told.answer - told.reasoning - sum(told.answer_media.values())
    total += spoken * ordinary_out
    total += told.reasoning * prices.of("output_cost_per_reasoning_token", ordinary_out)
    for kind, tokens in told.answer_media.items():
        total += tokens * prices.of(f"output_cost_per_{kind}_token", ordinary_out)
    total *= Decimal(str(info.get("provider_specific_entry", {}).get(told.geo, 1)))
    search = info.get("search_context_cost_per_query", {}).get("search_context_size_medium", "0")
    files = TABLE["calls"].get(f"{vendor} file_search", "0")
    return total + told.searches * Decimal(str(search)) + told.file_searches * Decimal(files)


@dataclass(slots=True)
class _Prices:
    info: Json
    told: Told
    inclusive: bool

    def of(self, name: str, default: Decimal | None = None) -> Decimal:
        """Return a price for the answer's tier and the length of its prompt."""
        suffixes = [f"_{self.told.tier}", ""] if self.told.tier in {"flex", "priority"} else [""]
        for suffix in suffixes:
            for threshold in self._thresholds(name):
                if self._beyond(threshold) and f"{name}_above_{threshold}k_tokens{suffix}" in self.info:
                    return Decimal(self.info[f"{name}_above_{threshold}k_tokens{suffix}"])
            if f"{name}{suffix}" in self.info:
                return Decimal(self.info[f"{name}{suffix}"])
        return Decimal(0) if default is None else default

    def _thresholds(self, name: str) -> list[int]:
        found = {int(match[1]) for key in self.info if (match := re.match(rf"{name}_above_(\d+)k_tokens", key))}
        return sorted(found, reverse=True)

    def _beyond(self, threshold: int) -> bool:
        limit = threshold * 1_000
        return self.told.prompt >= limit if self.inclusive else self.told.prompt > limit


def _objects(body: bytes) -> Iterator[Json]:
    """Yield the JSON objects of a whole answer or of a stream, whatever frames it, up to the end of the answer."""
    text = body.decode("utf-8", "replace").strip()
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    for piece in lines or [text]:
        try:
            value = json.loads(piece)
        except ValueError:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield each
                if each.get("type") in _ENDS:
                    return


def _last_usage(objects: list[Json]) -> Json:
    """Return the last usage that is told, of an answer or of the response within an event."""
    found: Json = {}
    for each in objects:
        for holder in (each, each.get("response") or {}, each.get("x_groq") or {}):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                found = holder["usage"]
    return found


def _openai(objects: list[Json]) -> Told | None:
    usage = _last_usage(objects)
    if not usage:
        return None
    told = Told()
    answers = [holder for each in objects for holder in (each, each.get("response")) if isinstance(holder, dict)]
    told.model = next((str(each["model"]) for each in reversed(answers) if each.get("model")), "")
    told.tier = next((str(each["service_tier"]) for each in reversed(answers) if each.get("service_tier")), "")
    given = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    made = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    told.prompt = int(usage.get("prompt_tokens") or usage.get("input_tokens") or 0)
    told.answer = int(usage.get("completion_tokens") or usage.get("output_tokens") or 0)
    told.cached = int(given.get("cached_tokens") or 0)
    told.written = {"5m": int(given.get("cache_write_tokens") or 0)}
    told.prompt_media = _media(given)
    told.answer_media = _media(made)
    told.reasoning = int(made.get("reasoning_tokens") or 0)
    if told.reasoning and usage.get("total_tokens") == told.prompt + told.answer + told.reasoning:
        told.answer += told.reasoning  # xAI leaves it out of the answer
    for each in reversed(answers):
        if isinstance(each.get("output"), list):
            told.searches = sum(_is_search(item) for item in each["output"])
            told.file_searches = sum(item.get("type") == "file_search_call" for item in each["output"])
            break
    return told


def _is_search(item: Json) -> bool:
    """Whether an item is a search that is charged: pages that were opened are not."""
    action = (item.get("action") or {}).get("type", "search")
    return item.get("type") == "web_search_call" and action == "search"


def _media(details: Json) -> dict[str, int]:
    return {kind: int(details[f"{kind}_tokens"]) for kind in ("audio", "image") if details.get(f"{kind}_tokens")}


def _anthropic(objects: list[Json]) -> Told | None:
    usage: Json = {}
    model = ""
    for each in objects:
        message = each.get("message") or {}
        model = str(message.get("model") or each.get("model") or model)
        for part in (message.get("usage"), each.get("usage")):
            usage.update({key: value for key, value in (part or {}).items() if value is not None})
    if not usage:
        return None
    told = _of_anthropic(usage)
    served = [part for part in usage.get("iterations") or [] if part.get("type") == "fallback_message"]
    told.model = str(served[-1].get("model") or model) if served else model
    told.geo = str(usage.get("inference_geo") or "")
    told.tier = str(usage.get("service_tier") or "")
    told.searches = int((usage.get("server_tool_use") or {}).get("web_search_requests") or 0)
    return told


def _of_anthropic(usage: Json) -> Told:
    iterations = usage.get("iterations") or []
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    if iterations:
        usage = {**usage, **{name: sum(int(part.get(name) or 0) for part in iterations) for name in names}}
    told = Told(answer=int(usage.get("output_tokens") or 0), cached=int(usage.get("cache_read_input_tokens") or 0))
    written = int(usage.get("cache_creation_input_tokens") or 0)
    hour = min(written, int((usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0))
    told.written = {"1h": hour, "5m": written - hour}
    told.prompt = int(usage.get("input_tokens") or 0) + told.cached + written
    return told


def _gemini(objects: list[Json]) -> Told | None:
    usages = [each["usageMetadata"] for each in objects if each.get("usageMetadata")]
    if not usages:
        return None
    usage = usages[-1]
    told = Told(model=next((str(each["modelVersion"]) for each in reversed(objects) if each.get("modelVersion")), ""))
    told.prompt = int(usage.get("promptTokenCount") or 0) + int(usage.get("toolUsePromptTokenCount") or 0)
    told.cached = int(usage.get("cachedContentTokenCount") or 0)
    told.reasoning = int(usage.get("thoughtsTokenCount") or 0)
    told.answer = int(usage.get("candidatesTokenCount") or 0) + told.reasoning
    told.cached_media = _modalities(usage.get("cacheTokensDetails"), told.cached)
    given = _modalities(usage.get("promptTokensDetails"), told.prompt)
    told.prompt_media = {kind: tokens - told.cached_media.get(kind, 0) for kind, tokens in given.items()}
    told.answer_media = _modalities(usage.get("candidatesTokensDetails"), told.answer)
    return told


def _modalities(details: list[Json] | None, most: int) -> dict[str, int]:
    found = {str(each.get("modality")).lower(): int(each.get("tokenCount") or 0) for each in details or []}
    return {kind: min(found[kind], most) for kind in ("audio", "image", "video") if found.get(kind)}
