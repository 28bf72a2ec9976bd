"""What an adapter is.

An adapter serves one provider. It has one method to stream and one to close; other abilities are one-method
protocols that it may implement besides. It speaks the contract's messages on one side and the provider's wire
on the other, and nothing else.

The contract of :meth:`Adapter.stream`, which the kit in ``testing`` checks for every adapter:

* It yields non-empty lists of ChatEvents. What one read of the upstream brought stays together in one list.
  ``sequence`` is left 0: the server numbers.
* ``started`` comes first, exactly once, as soon as the provider's answer begins. Notices about the request
  follow it. The server holds both back until the first output.
* Blocks are started and stopped once, indexes rise from 0, a delta names an open block.
* ``usage_updated`` comes whenever the provider tells usage, and so before an error too. It is cumulative and replaces
  what was told before; where the provider corrects a count downwards, so does it.
* It ends with exactly one ``finished``, or raises an :class:`~.errors.AdapterError`. It raises nothing else but
  ``CancelledError``/``GeneratorExit``; faults of the transport are mapped ``from`` their cause.
* Refusals, safety stops and token limits are ``finished``, also when the provider reports them as an error.
* After ``finished`` it ends by itself, having read its connection to the end. Whoever iterates it goes on to that
  end for a moment, so that the connection serves the next call.
* ``finished`` carries reason, the provider's own word, usage, rate limits, metadata, and cost only where the
  provider states one. The server adds route, attempts and timing; how long the provider's own process took to start
  it is told by :attr:`Call.on_startup`.
* ``aclose()`` of the generator, or its cancellation, ends the upstream request at once. Whoever iterates it closes it.
* Nothing is retried inside: retrying is the server's.
* It may be called concurrently. After :meth:`Adapter.aclose`, which is idempotent, it may not be called again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from pydantic import SecretStr

from execution_platform.v1 import capability_pb2, catalog_pb2, chat_pb2

__all__ = [
    "Adapter",
    "Call",
    "CapabilityRow",
    "CountsTokens",
    "KnownModel",
    "ListsModels",
    "Places",
    "PriceListing",
    "ProviderConfig",
    "ProviderOption",
    "ProviderSpec",
    "Timeouts",
    "TokenCount",
    "Translation",
]

Events = list[chat_pb2.ChatEvent]


def _nobody_listens(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at a chat.

    Attributes:
        request: the caller's request, validated. Never changed.
        model: the provider's own name of the model, never empty.
        request_id: the chat's id, also where the caller gave none.
        unary: ask the provider for a whole answer instead of a stream. The events are the same.
        timeout: seconds that are left of the caller's deadline; None: no limit beyond the provider's own.
        on_startup: told the seconds that a process of the provider's own took to start, as soon as it has; never told
            where there is none.
        on_waiting: told True when the call waits for one of the adapter's own places, and False when it has it. Such
            time is no silence of the provider's, and a call that ends there has asked nobody.
    """

    request: chat_pb2.ChatRequest
    model: str
    request_id: str = ""
    unary: bool = False
    timeout: float | None = None
    on_startup: Callable[[float], None] = field(default=_nobody_listens, compare=False, repr=False)
    on_waiting: Callable[[bool], None] = field(default=_nobody_listens, compare=False, repr=False)


class Adapter(Protocol):
    """One provider, ready to serve. See the module for what it promises."""

    def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt.

        Raises:
            AdapterError: the attempt failed; the error says why and whether another one makes sense.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Bounded, idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What a provider counted: its number and its own JSON, with notices about what was left out."""

    input_tokens: int
    raw_json: str
    notices: tuple[chat_pb2.Notice, ...] = ()


@runtime_checkable
class CountsTokens(Protocol):
    """An adapter whose provider counts the tokens of a prompt."""

    async def count_tokens(self, call: Call) -> TokenCount:
        """Count the input tokens of the call. Raises AdapterError."""
        ...


@runtime_checkable
class ListsModels(Protocol):
    """An adapter whose provider lists its models."""

    async def list_models(self) -> list[catalog_pb2.Model]:
        """List the models with `provider`, `model` and what the provider says of them. Raises AdapterError."""
        ...


class Translation(Protocol):
    """The pure half of an adapter: the bytes of one answer in, events out. No I/O, no clock, used once.

    A stream is fed piece by piece, cut anywhere, then ended. A whole body is read by :meth:`whole` instead and
    gives the same blocks, finish and usage.
    """

    def feed(self, data: bytes) -> Events:
        """Take the next bytes of a streamed answer.

        Raises:
            AdapterError: the stream tells an error; its `events` are what these bytes said before it.
        """
        ...

    def end(self) -> Events:
        """Tell that the stream's bytes are over.

        Raises:
            StreamBrokenError: the provider has not said that the answer is complete.
        """
        ...

    def whole(self, body: bytes) -> Events:
        """Take the body of an unstreamed answer. Raises AdapterError."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits on one provider's transport, in seconds.

    Attributes:
        connect: to establish a connection.
        read: longest silence of the upstream, before the first byte and between bytes.
    """

    connect: float = 10.0
    read: float = 300.0


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """How one provider is reached from here.

    Attributes:
        name: the provider's name, as in its ProviderSpec.
        api_key: its credentials; hides itself from repr and logs.
        base_url: address of its API; empty: the spec's default.
        options: values of the spec's options, by name; always all of them.
    """

    name: str
    api_key: SecretStr | None = None
    base_url: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()


@dataclass(frozen=True, slots=True)
class ProviderOption:
    """A further setting of a provider, read from ``EP_<PROVIDER>_<NAME>``.

    Attributes:
        name: lower case, for example ``api_version``.
        description: what it does; goes into the configuration reference.
        default: value when it is not set.
    """

    name: str
    description: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that is known without asking its provider; sizes in tokens, None: not known."""

    name: str
    display_name: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityRow:
    """What some of a provider's models can do, as data; :mod:`.capabilities` reads it.

    What it leaves open is what a less specific row says, and unknown where none says it.

    Attributes:
        models: patterns of the models' names, as in fnmatch. The longest that matches is the most specific.
        supported: what they can do, as far as this adapter lets a caller use it.
        unsupported: what they cannot do.
        unknown: what a less specific row says and nobody knows of these.
        context_window: most tokens of prompt and answer; None: not said here.
        max_output_tokens: most tokens of an answer; None: not said here.
        source: where that is said: the address of a page of the provider's, or the type of its SDK.
        as_of: day on which the source was read.
    """

    models: tuple[str, ...] = ("*",)
    supported: frozenset[capability_pb2.Capability.ValueType] = frozenset()
    unsupported: frozenset[capability_pb2.Capability.ValueType] = frozenset()
    unknown: frozenset[capability_pb2.Capability.ValueType] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    source: str
    as_of: str


def _nothing_more(_: ProviderConfig, __: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a provider's models run, for lists of allowed regions. What the configuration says goes before it.

    Attributes:
        of: names of where a model runs, of which any on a list allows it: first the narrowest, which is told as the
            route's region, then wider ones that contain it. A model that may run in several regions has only names
            that contain them all. Empty: not known, which no list allows.
        known: all names that `of` may ever tell, so that a misspelt one is found.
        outside: why a model has no place although its name tells one, for people; empty: it is just not known.
    """

    of: Callable[[ProviderConfig, str], tuple[str, ...]]
    known: frozenset[str]
    outside: Callable[[ProviderConfig, str], str] = _nothing_more


def _as_it_is(model: str) -> tuple[str, ...]:
    return (model,)


def _alike_everywhere(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class PriceListing:
    """Where the published prices of a provider are, in the package ``genai-prices``, and what the package leaves out.

    Attributes:
        provider: the package's name of who sells.
        names: names under which a model may be listed, the most exact first.
        regions: what the prices of tokens are multiplied with that the list has under a name of its own, by where the
            model ran: ``Usage.region`` in lower case, else the narrowest place of :class:`Places`; empty: neither is
            told. Where a word is missing no prices are known. None: they are the same wherever the model runs.
        free_tools: tools that the provider runs for nothing beyond the tokens.
        audio_apart: audio costs many times what text does, so that without a price of its own it has none.
    """

    provider: str
    names: Callable[[str], Sequence[str]] = _as_it_is
    regions: Callable[[str], Mapping[str, Decimal] | None] = _alike_everywhere
    free_tools: frozenset[str] = frozenset()
    audio_apart: bool = False


def _nothing_missing(_: ProviderConfig) -> str:
    return ""


def _any_options(_: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


def _as_configured(config: ProviderConfig, _: Mapping[str, str]) -> ProviderConfig:
    return config


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as the registry knows it.

    An entry point of group ``execution_platform.adapters`` names a tuple of these.

    Attributes:
        name: lower case letters, digits and ``_``; forms the names of its settings.
        display_name: for people.
        family: whom its opaque state belongs to; providers of one family replay each other's.
        create: makes the adapter. Does no I/O. Imports the adapter, and so the provider's SDK, only here: a server
            shall not pay half a second for each provider that it does not use.
        default_model: used when a request names only the provider; empty: the request must name one.
        needs_key: it cannot be used without ``EP_<NAME>_API_KEY``.
        default_base_url: address of its API; empty with needs_base_url: ``EP_<NAME>_BASE_URL`` must be set.
        needs_base_url: it cannot be used without an address of the operator's.
        options: its further settings.
        models: what is known of its models without asking.
        capabilities: what its models can do; a row for all of them, and rows for those that differ.
        settle: completes its configuration out of an environment's other variables and the files that they name; asked
            once, when the configuration is read, so that adapter, places and prices all go by one answer.
        missing: says what else is missing to use it, naming the remedy; empty: nothing.
        wrong_options: says what is wrong with provider options, by option, so that a persona's are checked when it is
            read; asked with what they hold. Empty: nothing, or they go into a request as they are.
        automatic_rank: place in the automatic choice, lowest first; None: never chosen automatically.
        places: where its models run, if it knows; None: only the configuration says.
        price_listing: where its published prices are; None: it runs on a machine of the operator's, or publishes none.
        many_calls: an answer may take many calls of models, as an agent's run does, and its usage is the sum of them:
            neither `max_output_tokens` nor what a model can do in one call bounds it.
    """

    name: str
    display_name: str
    family: str
    create: Callable[[ProviderConfig], Adapter]
    default_model: str = ""
    needs_key: bool = True
    default_base_url: str = ""
    needs_base_url: bool = False
    options: Sequence[ProviderOption] = ()
    models: Sequence[KnownModel] = ()
    capabilities: Sequence[CapabilityRow] = ()
    settle: Callable[[ProviderConfig, Mapping[str, str]], ProviderConfig] = _as_configured
    missing: Callable[[ProviderConfig], str] = _nothing_missing
    wrong_options: Callable[[Mapping[str, Any]], Mapping[str, str]] = _any_options
    automatic_rank: int | None = None
    places: Places | None = None
    price_listing: PriceListing | None = None
    many_calls: bool = False
