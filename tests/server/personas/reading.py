"""Reads configurations from texts, as the server reads them from files."""

from __future__ import annotations

import dataclasses

from execution_platform.adapters.registry import Registry
from execution_platform.adapters.spi import CapabilityRow, Places, ProviderConfig, ProviderSpec
from execution_platform.server.config.known import KnownNames
from execution_platform.server.config.read import Content, PlatformError, Reading, read_platform
from execution_platform.v1 import capability_pb2


def _never(_: object) -> object:
    raise AssertionError("nobody is asked")


#: A provider of one model that is known not to take images.
BLIND = ProviderSpec(
    name="blind",
    display_name="Blind",
    family="blind",
    create=_never,  # type: ignore[arg-type]  # no adapter is made
    default_model="mole",
    capabilities=[
        CapabilityRow(
            source="https://docs.example.test",
            as_of="2026-11-21",
            supported=frozenset({capability_pb2.CAPABILITY_TOOLS}),
            unsupported=frozenset({capability_pb2.CAPABILITY_IMAGE_INPUT}),
        )
    ],
)

#: A provider that can never be asked here.
LAME = dataclasses.replace(
    BLIND, name="lame", needs_key=False, default_model="leg", missing=lambda _: "install execution-platform[lame]"
)

#: A provider that checks its options.
SIGHTED = dataclasses.replace(
    BLIND,
    name="sighted",
    family="sighted",
    wrong_options=lambda options: {
        name: "must be a whole number" for name, value in options.items() if not isinstance(value, int)
    },
)

#: A provider whose models are named after where they run.
CLOUD = dataclasses.replace(
    BLIND,
    name="cloud",
    default_model="",
    places=Places(lambda _, model: (model.partition(".")[0],), frozenset({"cloud-eu", "cloud-us"})),
)

KNOWN = KnownNames.of(
    [*Registry.discover().specs(), BLIND, LAME, CLOUD, SIGHTED],
    {"fast": "openai/gpt-5-mini", "local-one": "local"},
    configs={
        **{name: ProviderConfig(name) for name in ("blind", "lame", "cloud", "anthropic")},
        "bedrock": ProviderConfig("bedrock", options={"region": "eu-central-1"}),
    },
)


def read(text: str, file: str = "personas.yaml", known: KnownNames = KNOWN) -> Reading:
    """Return what one file says. Raises PlatformError."""
    return read_platform([Content(file, text.encode())], known)


def problems_of(*files: tuple[str, str]) -> tuple[str, ...]:
    """Return what is wrong with files, given by name and text; the second is of personas only."""
    contents = [Content(name, text.encode(), only_personas=place > 0) for place, (name, text) in enumerate(files)]
    try:
        read_platform(contents, KNOWN)
    except PlatformError as error:
        return error.problems
    return ()
