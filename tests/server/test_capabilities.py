"""What a model can do decides what it is asked for: facts, what is missing, what is left out and told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tests.server.conftest import Serve, chat_request

from execution_platform.adapters.capabilities import ALL, name_of, named
from execution_platform.adapters.errors import UnsupportedOptionError
from execution_platform.adapters.scripted import PROVIDERS
from execution_platform.adapters.spi import CapabilityRow, KnownModel, ProviderSpec
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.capabilities import Facts, by_name, facts_of, fitted, missing, used_by
from execution_platform.v1 import capability_pb2, catalog_pb2, chat_pb2, content_pb2

NOTHING = frozenset(ALL)
LACKS_ALL = Facts("p/m", unsupported=NOTHING)

SPEC: ProviderSpec = dataclasses.replace(
    PROVIDERS[0],
    name="knowing",
    models=(KnownModel("m", context_window=1_000, max_output_tokens=100),),
    capabilities=(
        CapabilityRow(supported=named("tools"), unsupported=named("seed"), source="a page", as_of="2026-11-02"),
    ),
)

Change = Callable[[chat_pb2.ChatRequest], None]


def request(change: Change) -> chat_pb2.ChatRequest:
    made = chat_request("p/m")
    change(made)
    return made


def with_tool(made: chat_pb2.ChatRequest) -> None:
    made.tools.add().function.name = "look"


def with_schema(made: chat_pb2.ChatRequest) -> None:
    made.output_format.json_schema.schema_json = "{}"


def with_hint(made: chat_pb2.ChatRequest) -> None:
    made.messages[0].content[0].cache_hint.SetInParent()


def with_hinted_tool(made: chat_pb2.ChatRequest) -> None:
    made.tools.add().provider.type = "web_search"
    made.tools[0].cache_hint.SetInParent()


def with_media(mime_type: str, uri: str = "", *, in_result: bool = False) -> Change:
    def change(made: chat_pb2.ChatRequest) -> None:
        block = made.messages[0].content.add()
        media = block.tool_result.content.add().media if in_result else block.media
        media.CopyFrom(content_pb2.MediaBlock(mime_type=mime_type, uri=uri))

    return change


def setting(path: str, value: object) -> Change:
    def change(made: chat_pb2.ChatRequest) -> None:
        message, _, field = path.rpartition(".")
        setattr(getattr(made, message) if message else made, field, value)

    return change


# --- facts ------------------------------------------------------------------------------------------------------------


def test_the_providers_data_is_what_is_known() -> None:
    """Without a word of the configuration the facts are the provider's, with their source."""
    facts = facts_of(SPEC, "m", PlatformConfiguration())
    assert (facts.supported, facts.unsupported) == (named("tools"), named("seed"))
    assert (facts.context_window, facts.max_output_tokens) == (1_000, 100)
    assert (facts.name, facts.source, facts.as_of) == ("knowing/m", "a page", "2026-11-02")


def test_the_configuration_goes_before_the_data() -> None:
    """What is declared is all that the model can do; a size that is not declared stays the provider's."""
    models = {"knowing/m": {"capabilities": ["seed"], "context_window": 7}}
    facts = facts_of(SPEC, "m", PlatformConfiguration.model_validate({"models": models}))
    assert facts.supported == named("seed")
    assert facts.unsupported == frozenset(ALL) - named("seed")
    assert (facts.context_window, facts.max_output_tokens) == (7, 100)
    assert "models.knowing/m" in facts.source
    assert not facts.as_of


def test_declared_sizes_alone_say_nothing_of_abilities() -> None:
    """A model of which only the size is declared can do what the data says."""
    models = {"knowing/m": {"max_output_tokens": 9}}
    facts = facts_of(SPEC, "m", PlatformConfiguration.model_validate({"models": models}))
    assert (facts.supported, facts.max_output_tokens) == (named("tools"), 9)


def test_every_name_of_the_configuration_is_a_capability() -> None:
    """The names in files are the contract's, each and all."""
    names = PlatformConfiguration.model_validate({"models": {"a/b": {"capabilities": [name_of(each) for each in ALL]}}})
    assert by_name(names.models["a/b"].capabilities or ()) == frozenset(ALL)


def test_what_is_missing_is_told_in_words() -> None:
    """What a model lacks and what nobody knows of it are told apart, the second with the remedy."""
    facts = Facts("p/m", supported=named("tools"), unsupported=named("seed"))
    assert missing(named("tools"), facts) == []
    assert missing(named("tools", "seed", "batch"), facts) == [
        "lacks seed",
        "is not known to have batch; if it has, declare it in the configuration: models.p/m.capabilities",
    ]


# --- what a request uses ----------------------------------------------------------------------------------------------

USES = [
    (with_tool, "tools"),
    (setting("parallel_tool_calls", value=True), "parallel_tools"),
    (setting("reasoning.enabled", value=True), "thinking"),
    (setting("reasoning.effort", "low"), "thinking"),
    (setting("reasoning.budget_tokens", 100), "thinking"),
    (with_schema, "structured_output"),
    (with_media("image/png"), "image_input"),
    (with_media("Image/PNG"), "image_input"),
    (with_media("", "https://example.com/a.JPG?size=1"), "image_input"),
    (with_media("image/png", in_result=True), "image_input"),
    (with_media("application/pdf"), "pdf_input"),
    (with_media("", "https://example.com/a.pdf"), "pdf_input"),
    (with_media("audio/wav; rate=1"), "audio_input"),
    (setting("cache.automatic", value=True), "prompt_caching"),
    (setting("cache.key", "k"), "prompt_caching"),
    (with_hint, "prompt_caching"),
    (with_hinted_tool, "prompt_caching"),
    (setting("sampling.seed", 0), "seed"),
    (setting("sampling.logprobs", value=True), "logprobs"),
    (setting("sampling.top_logprobs", 2), "logprobs"),
]

USES_NOTHING = [
    lambda _: None,
    setting("parallel_tool_calls", value=False),
    setting("reasoning.enabled", value=False),
    setting("reasoning.effort", "none"),
    setting("reasoning.budget_tokens", 0),
    setting("sampling.logprobs", value=False),
    setting("cache.automatic", value=False),
    with_media("text/plain"),
    with_media("", "https://example.com/unknown"),
    lambda made: made.output_format.json.SetInParent(),
    lambda made: setattr(made.tools.add().provider, "type", "web_search"),
]


@pytest.mark.parametrize(("change", "name"), USES)
def test_a_request_uses_what_it_asks_for(change: Change, name: str) -> None:
    """Tools, media, schema, reasoning, caching and sampling each need an ability, wherever they stand."""
    assert used_by(request(change)) == named(name)


@pytest.mark.parametrize("change", USES_NOTHING)
def test_a_request_that_asks_for_nothing_uses_nothing(change: Change) -> None:
    """What is switched off, or needs nothing of the kind, needs no ability."""
    assert used_by(request(change)) == frozenset()


# --- what is left out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "name"), [each for each in USES if "input" not in each[1]])
def test_what_a_model_lacks_is_left_out_and_told(change: Change, name: str) -> None:
    """The copy no longer uses it, each notice names a field and the model, and the request stays as it was."""
    asked = request(change)
    before = asked.SerializeToString(deterministic=True)
    fitting, notices = fitted(asked, LACKS_ALL)
    assert fitting is not None
    assert used_by(fitting) == frozenset()
    assert asked.SerializeToString(deterministic=True) == before
    assert notices
    for notice in notices:
        assert notice.code in {chat_pb2.NOTICE_CODE_PARAM_DROPPED, chat_pb2.NOTICE_CODE_PARAM_ADJUSTED}
        assert notice.field
        assert notice.message.startswith("p/m ")
    assert fitted(asked, Facts("p/m", supported=named(name))) == (None, ())


@pytest.mark.parametrize(("change", "name"), [each for each in USES if "input" not in each[1]])
def test_what_a_model_lacks_is_refused_where_that_is_wanted(change: Change, name: str) -> None:
    """Under REJECT the first thing that would be left out is an error that names its field."""
    asked = request(change)
    asked.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    with pytest.raises(UnsupportedOptionError) as caught:
        fitted(asked, Facts("p/m", unsupported=named(name)))
    assert caught.value.field
    assert "p/m" in caught.value.message


@pytest.mark.parametrize("change", [each[0] for each in USES if "input" in each[1]])
def test_media_are_never_left_out(change: Change) -> None:
    """A model that cannot see or hear gets the prompt as it is: others are asked before it, its adapter refuses."""
    assert fitted(request(change), LACKS_ALL) == (None, ())


@pytest.mark.parametrize("change", [change for change, _ in USES])
def test_what_is_not_known_is_left_in(change: Change) -> None:
    """Of a model that nobody knows anything of, nothing is assumed."""
    assert fitted(request(change), Facts("p/m")) == (None, ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (setting("parallel_tool_calls", value=False), "parallel_tool_calls"),
        (setting("reasoning.enabled", value=False), "reasoning"),
        (setting("sampling.logprobs", value=False), "sampling"),
    ],
)
def test_what_is_not_wanted_is_not_told(change: Change, field: str) -> None:
    """Who cannot do something complies with not doing it: the option goes without a notice, and is never refused."""
    asked = request(change)
    asked.unsupported_options = chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
    fitting, notices = fitted(asked, LACKS_ALL)
    assert fitting is not None
    assert notices == ()
    assert not fitting.HasField(field) or not getattr(fitting, field).ListFields()  # type: ignore[arg-type]  # its own


def test_a_schema_becomes_any_json() -> None:
    """Without schemas the nearest that is left is a JSON object, and the notice says that it was adjusted."""
    fitting, notices = fitted(request(with_schema), Facts("p/m", unsupported=named("structured_output")))
    assert fitting is not None
    assert fitting.output_format.WhichOneof("format") == "json"
    assert [notice.code for notice in notices] == [chat_pb2.NOTICE_CODE_PARAM_ADJUSTED]


def test_tools_of_the_provider_stay_when_the_callers_go() -> None:
    """A model that calls no functions may still search; a choice that forces a function goes with it, and is told."""

    def change(made: chat_pb2.ChatRequest) -> None:
        made.tools.add().function.name = "look"
        made.tools.add().provider.type = "web_search"
        made.tool_choice.mode = chat_pb2.TOOL_CHOICE_MODE_REQUIRED

    fitting, notices = fitted(request(change), Facts("p/m", unsupported=named("tools")))
    assert fitting is not None
    assert [tool.WhichOneof("tool") for tool in fitting.tools] == ["provider"]
    assert not fitting.HasField("tool_choice")
    assert [notice.field for notice in notices] == ["tools", "tool_choice"]


# --- what callers see -------------------------------------------------------------------------------------------------


async def test_models_tell_what_they_can_do(serve: Serve) -> None:
    """ListModels and GetModel tell the data with its source, and the configuration's word before it."""
    platform = {"models": {"scripted/slow": {"capabilities": ["batch"], "context_window": 5, "max_output_tokens": 3}}}
    async with serve(platform=platform) as served:
        answer = await served.catalog.ListModels(catalog_pb2.ListModelsRequest(provider="scripted"))
        models = {model.model: model for model in answer.models}
        echo = (await served.catalog.GetModel(catalog_pb2.GetModelRequest(name="scripted/echo"))).model
    assert capability_pb2.CAPABILITY_STREAMING in echo.capabilities.supported
    assert capability_pb2.CAPABILITY_BATCH in echo.capabilities.unsupported
    assert (echo.capabilities.source, echo.capabilities.as_of) == ("execution_platform.adapters.scripted", "2026-11-21")
    assert models["echo"] == echo
    slow = models["slow"]
    assert list(slow.capabilities.supported) == [capability_pb2.CAPABILITY_BATCH]
    assert len(slow.capabilities.unsupported) == len(ALL) - 1
    assert (slow.context_window, slow.max_output_tokens) == (5, 3)


async def test_a_listed_size_is_the_providers(serve: Serve) -> None:
    """What the provider itself says of a size goes before the data, not before the configuration."""
    row = CapabilityRow(context_window=11, max_output_tokens=12, source="a page", as_of="2026-11-02")
    spec = dataclasses.replace(PROVIDERS[0], name="sized", capabilities=(row,), models=(KnownModel("echo", "", 21),))
    async with serve({}, [spec]) as served:
        answer = await served.catalog.GetModel(catalog_pb2.GetModelRequest(name="sized/echo"))
    assert (answer.model.context_window, answer.model.max_output_tokens) == (21, 12)
