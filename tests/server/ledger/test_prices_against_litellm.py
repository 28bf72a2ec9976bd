"""What recorded answers cost here is what LiteLLM's public prices and rules make of them, but for what is explained."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.adapters.anthropic.wire import translation as anthropic_translation
from tests.adapters.gemini.answers import translation as gemini_translation
from tests.adapters.openai_chat.answers import dialect_of
from tests.adapters.openai_chat.answers import translation as chat_translation
from tests.adapters.openai_responses.answers import translation as responses_translation
from tests.adapters.recordings import Record, body_of, needs_recordings, pieces_of, records
from tests.server.ledger.litellm_rules import Told, cost_of, told_by
from tests.server.listings import LISTINGS

from execution_platform.adapters.spi import Translation
from execution_platform.client.fold import Fold
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.prices import Prices
from execution_platform.v1 import usage_pb2

#: When LiteLLM's figures were taken: a Saturday, out of the peak hours of who has such.
DAY = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
EXACT = Decimal("0.001")

APIS = ("messages", "chat.completions", "responses", "generateContent", "streamGenerateContent")
MAKERS = ("anthropic", "azure", "gemini", "openai", "openai_compatible")

#: Bodies that are no answer, and answers that fail.
BROKEN = {"doc-anthropic-768acc8ac574", "doc-anthropic-1f8f3fa3c524", "doc-azure-678d94666a30"}

#: Why a cost here is another one. What is said of prices was looked up on 2026-11-21 in stored copies of the pages.
DIFFERENCES: dict[str, str] = {
    **dict.fromkeys(
        ["openai-9a7426fe1878c8"],
        "LiteLLM charges every search of GPT-4.1 at $25 a thousand, the price of `web_search_preview`; `web_search`, "
        "which is used here, is $10 with all models (pricing page of OpenAI)",
    ),
    **dict.fromkeys(
        ["openai-c07f77a4ed0508"],
        "LiteLLM has no price of searches for this snapshot of GPT-4o; `web_search` is $10 a thousand with all models "
        "(pricing page of OpenAI)",
    ),
    **dict.fromkeys(
        ["openai_compatible-206ac5f6ee049d"],
        "DeepSeek's prices are halved out of peak hours (its page of prices); LiteLLM has those of the peak only",
    ),
    **dict.fromkeys(
        [
            "doc-openai_compatible-5539f1832106",
            "doc-openai_compatible-bf1c2f5c22f4",
            "doc-openai_compatible-f73a723ffe30",
            "doc-openai_compatible-f6c550d6c0cc",
            "doc-openai_compatible-046061d7996b",
        ],
        "deepseek-chat and deepseek-reasoner are no longer on DeepSeek's page: genai-prices has the figures of R1 and "
        "V3, LiteLLM those of V3.2; whoever uses the names declares a price",
    ),
    **dict.fromkeys(
        [
            "anthropic-428531923a7dfe",
            "anthropic-f875ac53da63eb",
            "doc-anthropic-bed3c96dfc7e",
            "doc-anthropic-7cfda8279753",
            "doc-anthropic-d6c2da45ee37",
            "doc-anthropic-5cede9cbdf04",
        ],
        "two models answered, or advised; each is charged here at its own price, LiteLLM charges all at that of one",
    ),
}

#: Why there is no whole price here where LiteLLM has one.
UNPRICED: dict[str, str] = {
    **dict.fromkeys(
        ["gemini-837c342f36f9cf", "gemini-5d8bed3c1cdf9f"],
        "the recording tells the traffic type as a number, which is no word of Gemini's",
    ),
    **dict.fromkeys(
        ["doc-gemini-3c4c8c7c91af", "doc-gemini-a356f1ad76ae"],
        "provisioned throughput is paid for by the hour, not by the token",
    ),
    "openai-85b2d9d82e7e4f": "genai-prices has no price for audio of gpt-4o-audio-preview, and text's is far less",
    **dict.fromkeys(
        [
            "openai_compatible-e805b9a11092bd",
            "openai_compatible-6a572797926266",
            "openai_compatible-3af017bfe2c088",
            "openai_compatible-1a86315edd26d8",
            "openai_compatible-8eb13d4b960be5",
            "doc-openai_compatible-37780dfed0ad",
        ],
        "genai-prices does not know this seller, or not this model of it",
    ),
    "openai_compatible-084b3528486b77": "genai-prices does not know this model; LiteLLM has it for nothing",
    **dict.fromkeys(
        [
            "doc-azure-784d917b83eb",
            "doc-azure-9978b1cc214d",
            "doc-azure-2cb91b09a41a",
            "doc-azure-955bd41f87cb",
            "doc-azure-fd2de559f36b",
        ],
        "what Azure asks for searches genai-prices does not know; OpenAI's price is not Azure's",
    ),
    **dict.fromkeys(
        ["doc-openai-7fa104925d3a", "doc-openai-ef8de4ce6709"],
        "nothing was used: the answer counts no token",
    ),
}

#: Why what a provider states, which counts, is not what the list says.
STATED: dict[str, str] = {
    "openai_compatible-a3ed491235abfa": "Perplexity's fee depends on how much was searched; the list has the highest",
    "openai_compatible-adbc5ab86d68a3": "OpenRouter's search costs a fee, and answers do not count searches",
    "openai_compatible-0da10f74e260fa": "cache writes cost 1.25 times the input, which the list leaves out",
}


def recorded() -> Iterator[Any]:
    """Every recorded answer that tells its usage, and what it tells."""
    for split in ("open", "documented"):
        for maker in MAKERS:
            for record in records(split, maker):
                if record["response"]["status"] == 200 and record["api"] in APIS and record["id"] not in BROKEN:
                    told = told_by(record, body_of(record))
                    if told is not None:
                        yield pytest.param(record, told, id=record["id"])


def translation_of(record: Record) -> Translation:
    if record["api"] == "chat.completions":
        return chat_translation(dialect_of(record["vendor"], record.get("model") or ""))
    if record["api"] == "responses":
        return responses_translation(record)
    return anthropic_translation() if record["api"] == "messages" else gemini_translation()


def usage_of(record: Record, seed: int | None) -> tuple[usage_pb2.Usage, usage_pb2.Cost]:
    """What our adapter tells of an answer: whole, or as it comes in pieces."""
    body, translation, fold = body_of(record), translation_of(record), Fold()
    if body.lstrip().startswith(b"{"):
        fold.add_all(translation.whole(body))
    else:
        for piece in [body] if seed is None else pieces_of(body, seed):
            fold.add_all(translation.feed(piece))
        fold.add_all(translation.end())
    finished = fold.response.finished
    return finished.usage, finished.cost


def asked_of(record: Record) -> str:
    """The model that the request names."""
    request = record.get("request") or {}
    body = request.get("body")
    if isinstance(body, str) and body.startswith("{"):
        body = json.loads(body)
    in_path = re.search(r"models/([^:/?]+)", request.get("path") or "")
    named = in_path[1] if in_path else body.get("model") if isinstance(body, dict) else None
    return str(named or record.get("model") or "")


def names_of(record: Record, told: Told) -> list[str]:
    """Names of the model, that which served first."""
    return [name for name in dict.fromkeys([told.model, record.get("model") or "", asked_of(record)]) if name]


def total_of(cost: usage_pb2.Cost) -> Decimal:
    return Decimal(sum(line.amount.nanos for line in cost.lines)) / 10**9


def differs(ours: Decimal, theirs: Decimal) -> bool:
    return abs(ours - theirs) > EXACT * max(ours, theirs)


def verdict_on(record: Record, told: Told, prices: Prices, seed: int | None = None) -> str:
    """How the cost of an answer compares: by the list, beside what the provider may state."""
    usage, stated = usage_of(record, seed)
    names = names_of(record, told)
    provider = record["vendor"].replace("-", "_")
    listed = prices.cost(provider, names[-1] if names else "", usage, served=told.model, at=DAY)
    priced = listed.status == usage_pb2.COST_STATUS_ESTIMATED
    if stated.status == usage_pb2.COST_STATUS_EXACT:
        if not priced:
            return "stated, no list price"
        return "stated, list differs" if differs(total_of(listed), total_of(stated)) else "stated, list equal"
    theirs, _ = cost_of(record["vendor"], told, names)
    if theirs is None:
        return "not in LiteLLM, priced" if priced else "not in LiteLLM, unpriced"
    if not priced:
        return "unpriced here"
    return "differs" if differs(total_of(listed), theirs) else "equal"


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices(PlatformConfiguration, LISTINGS)


@needs_recordings
@pytest.mark.parametrize(("record", "told"), list(recorded()))
def test_an_answer_costs_what_litellm_says(prices: Prices, record: Record, told: Told) -> None:
    """A cost is LiteLLM's within 0.1 %, however the answer was cut; every difference has its reason, and no other."""
    verdict = verdict_on(record, told, prices)
    assert {verdict_on(record, told, prices, seed) for seed in (1, 2)} == {verdict}
    assert (verdict == "differs") == (record["id"] in DIFFERENCES)
    assert (verdict == "unpriced here") == (record["id"] in UNPRICED)
    assert (verdict == "stated, list differs") == (record["id"] in STATED)


@needs_recordings
def test_most_of_all_is_compared(prices: Prices, record_property: Any) -> None:
    """Seven of ten recorded answers are compared, nine of ten of these are equal, and the others have reasons."""
    found = Counter(verdict_on(record, told, prices) for record, told in (case.values for case in recorded()))
    record_property("counts", dict(found))
    compared = found["equal"] + found["differs"] + found["unpriced here"]
    assert compared >= 0.7 * found.total()
    assert found["equal"] >= 0.9 * compared
    assert (found["differs"], found["unpriced here"]) == (len(DIFFERENCES), len(UNPRICED))


@needs_recordings
def test_what_is_priced_and_used_is_not_free(prices: Prices) -> None:
    """No answer of a priced model that used anything costs nothing."""
    for case in recorded():
        record: Record = case.values[0]
        usage, _ = usage_of(record, None)
        cost = prices.cost(record["vendor"], asked_of(record), usage, at=DAY)
        if cost.status == usage_pb2.COST_STATUS_ESTIMATED and any(item.quantity for item in usage.items):
            assert total_of(cost) > 0, record["id"]
