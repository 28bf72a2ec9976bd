"""What operators can scrape, and what it never holds."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import Serve, chat_request, events_of, failed_stream, until

from execution_platform.adapters.registry import Registry
from execution_platform.adapters.scripted import PROVIDERS
from execution_platform.server.config.load import ConfigurationError, load
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.listening import ListenError
from execution_platform.server.metrics import INSTRUMENTS, InstrumentKind, Metrics
from execution_platform.server.metrics_endpoint import MetricsEndpoint
from execution_platform.server.routing.known_names import KnownNames
from execution_platform.server.routing.providers import Providers
from execution_platform.server.serve import _metrics_address

METERED = {"EP_METRICS_LISTEN": "127.0.0.1:0"}
RULES = Path(__file__).resolve().parents[2] / "deploy/prometheus/rules.yml"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def fetch(address: str) -> str:
    """What an endpoint serves."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


async def scrape(endpoint: MetricsEndpoint | None) -> Samples:
    """The samples of an endpoint, by name and labels."""
    assert endpoint is not None
    text = await asyncio.to_thread(fetch, endpoint.address)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels among theirs."""
    return sum(each for (found, theirs), each in samples.items() if found == name and theirs >= labels.items())


def count_everything(metrics: Metrics) -> None:
    """Call every method once."""
    metrics.watch_chats(lambda: 3, lambda: 4)
    metrics.chat("reviewer", ending="failed", reason="ERROR_REASON_DRAINING", seconds=0.2)
    metrics.attempt(
        "openai", "m", outcome="failed", cause="first", kind="timeout", seconds=2.0, first_output=1.0, startup=0.5
    )
    metrics.fallback("reviewer", "openai", "anthropic", "timeout")
    metrics.retry_denied("openai")
    metrics.hedge("openai", "anthropic")
    metrics.hedge("openai", "anthropic", won=True)
    metrics.circuit("openai", "m", "open")
    metrics.not_closed([("openai", "m")])
    metrics.limited("persona", "concurrent")
    metrics.shared_state(available=True)
    metrics.spent("reviewer", "openai", "m", nanos=5, tokens={"input": 7, "output": 0})
    metrics.spent("reviewer", "openai", "m", nanos=None, tokens={})
    metrics.budget_refused("before")
    metrics.ledger_batch(3, 0.01)
    metrics.watch_ledger(lambda: True, lambda: 2)
    metrics.reload(ok=True)


@pytest.fixture
async def endpoint() -> Any:
    """An endpoint that serves."""
    one = MetricsEndpoint("127.0.0.1:0")
    await one.start()
    yield one
    await one.aclose()


async def test_every_instrument_is_served_under_its_documented_name(endpoint: MetricsEndpoint) -> None:
    """Prometheus sees each instrument that is declared, with just the declared labels, and no other of ours."""
    count_everything(Metrics(endpoint.meter))
    seen: dict[str, set[str]] = {}
    for name, labels in await scrape(endpoint):
        if name.startswith("ep_"):
            family = re.sub(r"_(bucket|sum|count)\Z", "", name)
            seen.setdefault(family, set()).update(key for key, _ in labels if key != "le")
    assert seen == {each.prometheus_name: set(each.labels) for each in INSTRUMENTS}


async def test_the_alerts_name_what_is_served(endpoint: MetricsEndpoint) -> None:
    """Each metric that an alert asks for is served, and each label that it sums by or shows is one of its labels."""
    count_everything(Metrics(endpoint.meter))
    served = {name: {key for key, _ in labels} for name, labels in await scrape(endpoint)}
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 6
    for rule in rules:
        names = re.findall(r"\bep_\w+", rule["expr"])
        assert names, rule
        assert [name for name in names if name not in served] == []
        by = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        wanted = {label.strip() for labels in by for label in labels.split(",")}
        assert wanted <= served[names[0]] | {"instance"}
        shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert shown <= wanted | {"instance"}


def test_prometheus_takes_the_alerts() -> None:
    """Prometheus's own tool finds nothing wrong with the rules."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    checked = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_chats_and_attempts_are_counted(serve: Serve) -> None:
    """A chat counts once with its ending, each attempt with its outcome and kind, and times go to histograms."""
    error = [{"error": {"reason": "PROVIDER_OVERLOADED"}}]
    async with serve(METERED) as served:
        await events_of(served.chat.Chat(chat_request([{"text": "Hello"}])))
        await failed_stream(served.chat.Chat(chat_request(error)))
        samples = await scrape(served.app.metrics_endpoint)
    assert value(samples, "ep_chats_total", ending="finished", reason="") == 1
    assert value(samples, "ep_chats_total", ending="failed", reason="provider_overloaded") == 1
    assert value(samples, "ep_attempts_total", outcome="finished", provider="scripted", model="echo", kind="") == 1
    assert value(samples, "ep_attempts_total", outcome="failed", kind="overloaded", cause="first") == 1
    assert value(samples, "ep_attempt_first_output_seconds_count", provider="scripted") == 1
    assert value(samples, "ep_chat_duration_seconds_bucket", le="+Inf") == 2
    assert value(samples, "process_open_fds") > 0


async def test_models_that_callers_invent_are_other(serve: Serve) -> None:
    """However many models callers name that nobody configured, there is one series for all of them."""
    async with serve(METERED) as served:
        for number in range(5):
            await failed_stream(served.chat.Chat(chat_request(model=f"scripted/invented-{number}")))
        samples = await scrape(served.app.metrics_endpoint)
    models = {dict(labels)["model"] for name, labels in samples if name == "ep_attempts_total"}
    assert models == {"other"}
    assert value(samples, "ep_attempts_total", model="other") == 5


def test_names_are_known_as_soon_as_they_are_configured() -> None:
    """A model is known from a provider's data, an alias, a persona's route or `models`; a persona by its name."""
    current = PlatformConfiguration()
    registry = Registry(PROVIDERS)
    providers = Providers(registry, load(registry.specs(), {}).providers)
    names = KnownNames(providers, ["scripted/by-alias"], lambda: current)
    assert names.model("scripted", "echo") == "echo"
    assert names.model("scripted", "by-alias") == "by-alias"
    assert names.model("scripted", "first") == names.persona("reviewer") == "other"
    assert names.persona("") == ""
    route = {"provider": "scripted", "model": "first", "fallback": [{"provider": "scripted", "model": "second"}]}
    current = PlatformConfiguration.model_validate({"personas": {"reviewer": route}, "models": {"scripted/third": {}}})
    assert names.persona("reviewer") == "reviewer"
    assert [names.model("scripted", each) for each in ("first", "second", "third", "fourth")] == [
        "first",
        "second",
        "third",
        "other",
    ]


async def test_open_circuits_are_told_by_model_until_they_close(endpoint: MetricsEndpoint) -> None:
    """The gauge of a model is 1 while its circuit is open and 0 after; models that are not known add up."""
    metrics = Metrics(endpoint.meter, lambda _, model: model if model == "known" else "other")
    metrics.not_closed([("a", "known"), ("a", "x"), ("a", "y")])
    samples = await scrape(endpoint)
    assert value(samples, "ep_circuits_open", provider="a", model="known") == 1
    assert value(samples, "ep_circuits_open", provider="a", model="other") == 2
    metrics.not_closed([("a", "x")])
    samples = await scrape(endpoint)
    assert value(samples, "ep_circuits_open", provider="a", model="known") == 0
    assert value(samples, "ep_circuits_open", provider="a", model="other") == 1


async def test_a_refused_configuration_shows_until_one_is_accepted(endpoint: MetricsEndpoint) -> None:
    """The gauge falls to 0 with a configuration that is refused, its time stays, and both come back."""
    metrics = Metrics(endpoint.meter)
    first = await scrape(endpoint)
    metrics.reload(ok=False)
    refused = await scrape(endpoint)
    metrics.reload(ok=True)
    accepted = await scrape(endpoint)
    told = [value(each, "ep_configuration_accepted") for each in (first, refused, accepted)]
    times = [value(each, "ep_configuration_read_time_seconds") for each in (first, refused, accepted)]
    assert told == [1, 0, 1]
    assert times[0] == times[1] < times[2]
    assert value(accepted, "ep_configuration_reloads_total", result="refused") == 1


async def test_scrapes_at_once_are_all_whole(endpoint: MetricsEndpoint) -> None:
    """Each of many scrapes at the same time gives every series once."""
    count_everything(Metrics(endpoint.meter))
    expected = len([name for name, _ in await scrape(endpoint) if name.startswith("ep_")])
    texts = await asyncio.gather(*(asyncio.to_thread(fetch, endpoint.address) for _ in range(30)))
    counts = {len([line for line in text.splitlines() if line.startswith("ep_")]) for text in texts}
    assert counts == {expected}


async def test_nothing_listens_without_the_setting_or_after_the_end(serve: Serve) -> None:
    """Without EP_METRICS_LISTEN there is no endpoint; with it, its socket is closed with the server's."""
    async with serve() as served:
        assert served.app.metrics_endpoint is None
    async with serve(METERED) as served:
        endpoint = served.app.metrics_endpoint
        assert endpoint is not None
        told = served.log_lines("serving_metrics")
        assert [line["address"] for line in told] == [endpoint.address]
    host, _, port = endpoint.address.rpartition(":")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port))):
        pass


async def test_it_serves_while_the_server_drains(serve: Serve) -> None:
    """The last chats of a server are counted where the next scrape, while it drains, sees them."""
    async with serve(METERED) as served:
        call = served.chat.Chat(chat_request([{"text": "a"}, {"hang": True}]))
        async for _ in call:
            break
        ending = asyncio.create_task(served.app.shut_down())
        await until(lambda: served.app.admission.draining)
        samples = await scrape(served.app.metrics_endpoint)
        assert value(samples, "process_open_fds") > 0
        call.cancel()
        await ending


async def test_an_address_that_is_taken_is_told_with_its_setting() -> None:
    """A server that cannot serve its metrics says which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = MetricsEndpoint(f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ListenError, match="in use; choose another address with EP_METRICS_LISTEN"):
            await endpoint.start()
        await endpoint.aclose()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"EP_METRICS_LISTEN": "9464"}, "write it as host:port"),
        ({"EP_METRICS_LISTEN": "unix:metrics"}, "write it as host:port"),
        ({"EP_METRICS_LISTEN": "127.0.0.1:65535", "EP_WORKERS": "2"}, "no port for each of EP_WORKERS"),
    ],
)
def test_addresses_that_cannot_be_are_refused(settings: dict[str, str], told: str) -> None:
    """What is no host:port, or leaves no port for the last worker, is a mistake of the configuration."""
    with pytest.raises(ConfigurationError, match=told):
        load([], settings)


def test_each_worker_has_a_port_of_its_own() -> None:
    """A worker's port is the setting's plus its number; 0 stays any free one, and nothing stays nothing."""
    assert [_metrics_address("[::1]:9464", number) for number in range(2)] == ["[::1]:9464", "[::1]:9465"]
    assert _metrics_address("127.0.0.1:0", 3) == "127.0.0.1:0"
    assert _metrics_address("", 3) == ""


def test_counters_end_as_prometheus_wants() -> None:
    """Every counter ends with _total, nothing else does, and times name their unit."""
    for each in INSTRUMENTS:
        assert each.prometheus_name.endswith("_total") == (each.kind is InstrumentKind.COUNTER)
        assert each.prometheus_name.endswith("_seconds") == (each.unit == "s")
        assert re.fullmatch(r"ep_[a-z_]+", each.prometheus_name)
