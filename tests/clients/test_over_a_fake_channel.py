"""The synchronous client over the channel of grpcio-testing, where every step of a call is the test's."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_testing
import pytest
from tests.clients.platform_server import SECONDS, spoken

from execution_platform.client import ExecutionPlatformClient, NotFoundError, TransportError
from execution_platform.v1 import catalog_pb2, chat_pb2

CHAT = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]
CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]


@pytest.fixture
def channel() -> grpc_testing.Channel:
    """A channel whose other end is the test."""
    return grpc_testing.channel([CHAT, CATALOG], grpc_testing.strict_real_time())


@pytest.fixture
def caller() -> Iterator[ThreadPoolExecutor]:
    """Where the client waits."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_stream_is_read_as_it_comes(channel: grpc_testing.Channel, caller: ThreadPoolExecutor) -> None:
    """The request goes out as it was built, and the answer is complete when the status is there."""
    client = ExecutionPlatformClient(channel=channel, persona="dev")
    running = caller.submit(lambda: client.stream("Hello", seed=7).answer())
    _, request, rpc = channel.take_unary_stream(CHAT.methods_by_name["Chat"])
    assert (request.persona, request.sampling.seed) == ("dev", 7)
    rpc.send_initial_metadata(())
    for number, event in enumerate(spoken("a", "b"), 1):
        event.sequence = number
        rpc.send_response(chat_pb2.ChatResponse(events=[event]))
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert running.result(SECONDS).text == "ab"


def test_a_status_in_the_middle_is_an_error_with_what_came(
    channel: grpc_testing.Channel, caller: ThreadPoolExecutor
) -> None:
    """A connection that breaks after output is a TransportError with the text so far."""
    client = ExecutionPlatformClient(channel=channel)
    stream = client.stream("Hello")
    _, _, rpc = channel.take_unary_stream(CHAT.methods_by_name["Chat"])
    rpc.send_initial_metadata(())
    events = spoken("half", "never")[:3]
    for number, event in enumerate(events, 1):
        event.sequence = number
    rpc.send_response(chat_pb2.ChatResponse(events=events))
    assert caller.submit(next, stream.text_deltas()).result(SECONDS) == "half"
    rpc.terminate((), grpc.StatusCode.UNAVAILABLE, "Socket closed")
    with pytest.raises(TransportError, match="Socket closed") as caught:
        stream.answer()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "half"


def test_paging_carries_the_token_on(channel: grpc_testing.Channel, caller: ThreadPoolExecutor) -> None:
    """The token of a page is sent with the same provider for the next one, and an empty token ends."""
    client = ExecutionPlatformClient(channel=channel)
    running = caller.submit(client.models, "openai")
    for token, following in (("", "two"), ("two", "")):
        _, request, rpc = channel.take_unary_unary(CATALOG.methods_by_name["ListModels"])
        assert (request.provider, request.page_token) == ("openai", token)
        page = catalog_pb2.ListModelsResponse(models=[catalog_pb2.Model(name=token)], next_page_token=following)
        rpc.send_initial_metadata(())
        rpc.terminate(page, (), grpc.StatusCode.OK, "")
    assert [model.name for model in running.result(SECONDS)] == ["", "two"]


def test_a_unary_failure_names_its_request(channel: grpc_testing.Channel, caller: ThreadPoolExecutor) -> None:
    """An error without details takes the request's identifier from the initial metadata."""
    client = ExecutionPlatformClient(channel=channel)
    running = caller.submit(client.model, "none")
    _, _, rpc = channel.take_unary_unary(CATALOG.methods_by_name["GetModel"])
    rpc.send_initial_metadata((("x-request-id", "r-9"),))
    rpc.terminate(None, (), grpc.StatusCode.NOT_FOUND, "no such model")
    with pytest.raises(NotFoundError, match="no such model") as caught:
        running.result(SECONDS)
    assert caught.value.request_id == "r-9"
