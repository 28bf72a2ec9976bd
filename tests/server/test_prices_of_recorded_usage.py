"""What recorded answers cost is what genai-prices makes of their own usage, read by its own reader."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from tests.adapters.anthropic.wire import translation as anthropic_translation
from tests.adapters.gemini.answers import translation as gemini_translation
from tests.adapters.openai_chat.answers import translation as chat_translation
from tests.adapters.openai_responses.answers import translation as responses_translation
from tests.adapters.recordings import Record, body_of, needs_recordings, records
from tests.server.listings import LISTINGS

from execution_platform.adapters.spi import Translation
from execution_platform.client.fold import Fold
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.prices import Prices
from execution_platform.v1 import usage_pb2

DAY = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)

#: By recorded API: our provider, the list's name of it, the list's word for the format, and the translation.
APIS: dict[str, tuple[str, str, str]] = {
    "messages": ("anthropic", "anthropic", "default"),
    "chat.completions": ("openai", "openai", "chat"),
    "responses": ("openai", "openai", "responses"),
    "generateContent": ("gemini", "google", "default"),
}


def recorded() -> Iterator[Any]:
    """Whole answers of the three makers, with the figures that they tell of themselves."""
    for maker in ("anthropic", "openai", "gemini"):
        for record in records("open", maker):
            body = body_of(record)
            if record["response"]["status"] == 200 and record["api"] in APIS and body.lstrip().startswith(b"{"):
                told = json.loads(body)
                if told.get("usage") or told.get("usageMetadata"):
                    yield pytest.param(record, told, id=record["id"])


def translation_of(record: Record) -> Translation:
    made: dict[str, Any] = {
        "messages": anthropic_translation,
        "chat.completions": chat_translation,
        "responses": responses_translation,
        "generateContent": gemini_translation,
    }
    one: Translation = made[record["api"]]()
    return one


@pytest.fixture(scope="module")
def ours() -> Prices:
    return Prices(PlatformConfiguration, LISTINGS, lambda: DAY)


@needs_recordings
@pytest.mark.parametrize(("record", "told"), list(recorded()))
def test_a_recorded_answer_costs_what_its_own_figures_cost(ours: Prices, record: Record, told: dict[str, Any]) -> None:
    """Our items, priced one by one, sum up to what the list makes of the provider's overlapping figures."""
    provider, theirs, flavor = APIS[record["api"]]
    model = told.get("model") or told["modelVersion"]
    fold = Fold()
    fold.add_all(translation_of(record).whole(body_of(record)))
    usage = fold.response.finished.usage
    cost = ours.cost(provider, model, usage)
    snapshot = DataSnapshot(providers=providers, from_auto_update=False)
    try:
        read = snapshot.extract_usage(told, provider_id=theirs, api_flavor=flavor)
    except (ValueError, AttributeError):
        # Figures that the list's reader cannot read, such as modalities by number.
        read = None
    if read is None:
        pytest.skip("the list's reader cannot read these figures")
    if read.model is None:
        assert cost.status == usage_pb2.COST_STATUS_UNPRICED
        return
    if cost.status == usage_pb2.COST_STATUS_UNPRICED:
        # More careful than the list: what is used of tools and tiers that it does not price is not passed over.
        assert any(item.unit != usage_pb2.USAGE_UNIT_TOKEN for item in usage.items) or usage.service_tier
        return
    expected = read.calc_price(genai_request_timestamp=DAY).total_price
    # What advisors and compaction used is beside the figures of the answer, and searches are among its items:
    # the list's reader looks at neither.
    lines = [line for line in cost.lines if not line.item.model and not (flavor == "responses" and line.item.tool)]
    total = sum((Decimal(line.amount.nanos) for line in lines), Decimal(0)) / 10**9
    assert abs(total - expected) <= Decimal(len(lines)) / 10**9
