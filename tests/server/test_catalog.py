"""The catalog tells models, providers and the server as they are."""

from __future__ import annotations

import dataclasses

import grpc
import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, chat_request, events_of, failed_stream
from tests.server.test_routing import KEYED

from execution_platform.adapters.errors import UnavailableError
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.v1 import catalog_pb2


class SilentAdapter(ScriptedAdapter):
    """Answers chats but cannot list its models."""

    async def list_models(self) -> list[catalog_pb2.Model]:
        """Fail."""
        raise UnavailableError("the list is down; key made-up-key was sent")


class FaultyAdapter(ScriptedAdapter):
    """Has a bug where it lists its models."""

    async def list_models(self) -> list[catalog_pb2.Model]:
        """Raise what no adapter may raise."""
        raise KeyError("the inside")


async def test_fault_of_one_adapter_spoils_no_list(serve: Serve) -> None:
    """A bug of one adapter is told beside the models of the others, without its inside, which is in the log."""
    faulty = dataclasses.replace(KEYED, create=lambda _: FaultyAdapter())
    async with serve({"EP_KEYED_API_KEY": "made-up-key"}, [faulty]) as served:
        answer = await served.catalog.ListModels(catalog_pb2.ListModelsRequest())
        assert served.log_lines("list_models_fault")
    assert {model.provider for model in answer.models} == {"keyed", "scripted"}
    assert [(error.provider, "inside" in error.message) for error in answer.errors] == [("keyed", False)]


async def test_models_come_in_pages_in_order(served: Served) -> None:
    """Pages joined are the whole list, by name, without doubles."""
    whole = await served.catalog.ListModels(catalog_pb2.ListModelsRequest())
    names = [model.name for model in whole.models]
    assert names == sorted(set(names))
    paged: list[str] = []
    token = ""
    while True:
        page = await served.catalog.ListModels(catalog_pb2.ListModelsRequest(page_size=1, page_token=token))
        paged += [model.name for model in page.models]
        token = page.next_page_token
        if not token:
            break
    assert paged == names


@pytest.mark.parametrize(
    "request_",
    [
        catalog_pb2.ListModelsRequest(page_size=-1),
        catalog_pb2.ListModelsRequest(page_token="%%%"),
        catalog_pb2.ListModelsRequest(page_token="AAAA"),
        catalog_pb2.ListModelsRequest(provider="nobody"),
    ],
    ids=["negative size", "no base64", "not ours", "unknown provider"],
)
async def test_bad_page_requests_are_refused(served: Served, request_: catalog_pb2.ListModelsRequest) -> None:
    """Page sizes, tokens and providers that make no sense are refused by name."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.catalog.ListModels(request_)
    assert caught.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


async def test_page_token_is_bound_to_its_list(served: Served) -> None:
    """A token of one list is refused by another."""
    page = await served.catalog.ListModels(catalog_pb2.ListModelsRequest(page_size=1))
    with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
        await served.catalog.ListModels(
            catalog_pb2.ListModelsRequest(provider="scripted", page_token=page.next_page_token)
        )


async def test_models_that_are_known_are_listed_though_the_provider_is_down(serve: Serve) -> None:
    """A provider that does not answer is told as an error, without our key, and its known models are listed."""
    down = dataclasses.replace(KEYED, create=lambda _: SilentAdapter())
    async with serve({"EP_KEYED_API_KEY": "made-up-key"}, [down]) as served:
        answer = await served.catalog.ListModels(catalog_pb2.ListModelsRequest(provider="keyed"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.catalog.GetModel(catalog_pb2.GetModelRequest(name="keyed/unheard"))
    assert [model.name for model in answer.models] == ["keyed/big", "keyed/small"]
    assert [(error.provider, "made-up-key" in error.message) for error in answer.errors] == [("keyed", False)]
    assert (answer.models[0].context_window, answer.models[0].is_default) == (1000, True)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_provider_without_key_says_what_is_missing(serve: Serve) -> None:
    """A provider that is not configured names the variable to set."""
    async with serve({}, [KEYED]) as served:
        answer = await served.catalog.ListProviders(catalog_pb2.ListProvidersRequest())
    told = {provider.name: (provider.configured, provider.missing) for provider in answer.providers}
    assert told == {"keyed": (False, "set EP_KEYED_API_KEY"), "scripted": (True, "")}


async def test_provider_status_follows_its_answers(served: Served) -> None:
    """State and counts follow answers and the provider's own failures, not the caller's mistakes."""
    ask = catalog_pb2.GetProviderStatusRequest(provider="scripted")
    assert (await served.catalog.GetProviderStatus(ask)).state == catalog_pb2.PROVIDER_STATE_UNKNOWN
    await events_of(served.chat.Chat(chat_request()))
    await failed_stream(served.chat.Chat(chat_request([{"error": {"reason": "INVALID_REQUEST"}}])))
    good = await served.catalog.GetProviderStatus(ask)
    assert (good.state, good.finished_chats, good.failed_chats) == (catalog_pb2.PROVIDER_STATE_HEALTHY, 1, 0)
    await failed_stream(served.chat.Chat(chat_request([{"error": {"reason": "PROVIDER_OVERLOADED"}}])))
    bad = await served.catalog.GetProviderStatus(ask)
    assert (bad.state, bad.failed_chats, bad.running_chats) == (catalog_pb2.PROVIDER_STATE_FAILING, 1, 0)
    assert bad.last_error.provider == "scripted"


@pytest.mark.parametrize("name", ["", "nobody"])
async def test_status_of_no_provider_is_refused(served: Served, name: str) -> None:
    """The status of nobody is refused with the field."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider=name))
    assert caught.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


async def test_empty_name_of_a_model_is_refused(served: Served) -> None:
    """GetModel needs a name."""
    with pytest.raises(grpc.aio.AioRpcError, match="name: must be"):
        await served.catalog.GetModel(catalog_pb2.GetModelRequest())


async def test_server_tells_about_itself(served: Served) -> None:
    """Version, start, limits and default provider are told."""
    info = await served.catalog.GetServerInfo(catalog_pb2.GetServerInfoRequest())
    assert (info.default_provider, info.max_receive_bytes, info.draining) == ("scripted", 32 * 1024 * 1024, False)
    assert info.version
    assert info.start_time.seconds > 0
