"""Circuits as callers and operators see them: refusals, the provider's status, metrics and settings."""

from __future__ import annotations

import io

import grpc
import pytest
from google.rpc import error_details_pb2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.server.conftest import ONE_ATTEMPT, Serve, Served, chat_request, details_of, error_info, failed_stream

from execution_platform.adapters.errors import UnavailableError
from execution_platform.server.config.load import ConfigurationError, load
from execution_platform.server.config.personas import Breaker
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.circuits import Circuits
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import catalog_pb2

PLATFORM = {**ONE_ATTEMPT, "breaker": {"failures": 2, "open_seconds": 600}}
WORD = "open-sesame"
DOWN = [{"error": {"reason": "PROVIDER_UNAVAILABLE", "message": "secret words"}}]


async def status_of(served: Served) -> catalog_pb2.GetProviderStatusResponse:
    """What the server says of the scripted provider."""
    return await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider="scripted"))


async def test_an_open_circuit_refuses_with_the_time_and_shows_in_the_status(serve: Serve) -> None:
    """After the failures a chat gets CIRCUIT_OPEN with RetryInfo, nobody is asked, and the status tells the circuit."""
    async with serve(platform=PLATFORM) as served:
        assert not (await status_of(served)).circuits
        await failed_stream(served.chat.Chat(chat_request(DOWN)))
        [failing] = (await status_of(served)).circuits
        assert (failing.state, failing.consecutive_failures) == (catalog_pb2.CIRCUIT_STATE_CLOSED, 1)
        assert not failing.HasField("opened_time")
        await failed_stream(served.chat.Chat(chat_request(DOWN)))

        _, refused = await failed_stream(served.chat.Chat(chat_request()))
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert error_info(refused).reason == "CIRCUIT_OPEN"
        assert "secret words" not in (refused.details() or "")
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in details_of(refused).details)
        assert 0 < retry.retry_delay.ToSeconds() <= 600

        status = await status_of(served)
        [circuit] = status.circuits
        assert (circuit.model, circuit.state, circuit.consecutive_failures) == (
            "echo",
            catalog_pb2.CIRCUIT_STATE_OPEN,
            2,
        )
        assert circuit.probe_time.ToSeconds() - circuit.opened_time.ToSeconds() in {599, 600, 601}
        assert status.failed_chats == 2
        [line] = served.log_lines("circuit_opened")
        assert (line["provider"], line["model"], line["reason"]) == ("scripted", "echo", "PROVIDER_UNAVAILABLE")


async def test_callers_own_errors_open_nothing(serve: Serve) -> None:
    """However many chats a provider refuses for what they ask, others get through."""
    async with serve(platform=PLATFORM) as served:
        for reason in ("INVALID_REQUEST", "PROVIDER_RATE_LIMITED", "CONTEXT_LENGTH_EXCEEDED") * 2:
            _, error = await failed_stream(served.chat.Chat(chat_request([{"error": {"reason": reason}}])))
            assert error_info(error).reason == reason
        assert not (await status_of(served)).circuits


async def test_metrics_tell_each_change_and_what_is_open() -> None:
    """Transitions are counted by state, and the gauge is 1 for a circuit that is open and 0 once it is not."""
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider(metric_readers=[reader]).get_meter("test"))
    now = 0.0
    logger = make_logger("info", "json", io.StringIO())
    circuits = Circuits(lambda _: Breaker(failures=1, open_seconds=5), metrics, logger, clock=lambda: now)

    def values(name: str, label: str) -> dict[object, object]:
        data = reader.get_metrics_data()
        assert data is not None
        found = [
            metric.data.data_points
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return {(point.attributes or {}).get(label): getattr(point, "value", None) for point in found[0]}

    with pytest.raises(UnavailableError):
        async with circuits.of("p", "m").calling():
            raise UnavailableError("down")
    assert list(values("ep.circuits.open", "provider").values()) == [1]
    now += 5
    async with circuits.of("p", "m").calling():
        pass
    assert list(values("ep.circuits.open", "provider").values()) == [0]
    assert values("ep.circuit.transitions", "state") == {"open": 1, "half_open": 1, "closed": 1}


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://127.0.0.1:6379/3",
        f"rediss://user:{WORD}@redis.example:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
        "redis://[::1]:6379",
    ],
)
def test_addresses_of_redis(url: str) -> None:
    """Each usual form of an address is taken as it is."""
    assert load([], {"EP_REDIS_URL": url}).settings.redis_url.get_secret_value() == url


@pytest.mark.parametrize("url", ["127.0.0.1:6379", f"http://u:{WORD}@host", "redis://", "redis:///0", "redis://a b"])
def test_addresses_that_are_none_are_refused_without_telling_them(url: str) -> None:
    """The mistake names the variable and the form, never the value: it may hold a password."""
    with pytest.raises(ConfigurationError, match="EP_REDIS_URL: write it as redis://") as refused:
        load([], {"EP_REDIS_URL": url})
    assert WORD not in str(refused.value)


def test_a_password_is_not_in_what_settings_show() -> None:
    """Settings may be printed."""
    assert WORD not in repr(load([], {"EP_REDIS_URL": f"redis://:{WORD}@127.0.0.1"}).settings)
