"""What is known of Claude's models: sizes, and which options each one takes. Data only.

A model that is not listed, such as one behind another server of this format, is asked as the caller wishes: the
server knows better. Sources, read in November 2026: the models overview and the pages "what's new" and "migration
guide" of each model under https://platform.claude.com/docs/en/models/, "Troubleshooting thinking" and "Migrating to
API version 2026-10-21" there, the model list of the anthropic SDK 2.11 (`types/model.py`). Where they are silent the
size is None and the option is passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from execution_platform.adapters.capabilities import context_windows, named
from execution_platform.adapters.spi import CapabilityRow, KnownModel

__all__ = [
    "CAPABILITIES",
    "DEFAULT_BASE_URL",
    "DEFAULT_MAX_TOKENS",
    "DEFAULT_MODEL",
    "KNOWN_MODELS",
    "UNLISTED",
    "ModelFacts",
    "Off",
    "facts_of",
]

DEFAULT_BASE_URL = "https://api.anthropic.com"

DEFAULT_MODEL = "claude-sonnet-5-5"
"""The newest of the general line that the SDK lists."""

DEFAULT_MAX_TOKENS = 4096
"""`max_tokens` for a model whose own maximum is not known; every model takes it."""

_MILLION = 1_000_000
_200K = 200_000
_128K = 128_000
_64K = 64_000


class Off(Enum):
    """How a model is told not to think."""

    DISABLED = "disabled"
    BETWEEN_TOOLS = "between_tools"
    NEVER = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What one model takes.

    Attributes:
        known: its name and sizes.
        sampling: temperature, top_p and top_k are taken.
        temperature_with_top_p: both may be given at once.
        adaptive: thinking of type "adaptive" is taken.
        manual: thinking of type "enabled", with a budget, is taken.
        off: how thinking is switched off.
        thinks_by_default: it thinks when nothing is said.
        summarizes: what it shows of its thinking is a summary.
        effort: `output_config.effort` is taken.
        forced_tools: a tool choice that forces a call is taken.
        system_messages: messages of role "system" are taken.
        schemas: `output_config.format` is taken.
    """

    known: KnownModel
    sampling: bool = True
    temperature_with_top_p: bool = True
    adaptive: bool = True
    manual: bool = True
    off: Off = Off.DISABLED
    thinks_by_default: bool = False
    summarizes: bool = True
    effort: bool = True
    forced_tools: bool = True
    system_messages: bool = True
    schemas: bool = True

    @property
    def listed(self) -> bool:
        """Whether anything is known of the model."""
        return bool(self.known.name)


UNLISTED = ModelFacts(KnownModel(""), summarizes=False)
"""A model of which nothing is known: every option is passed on."""


def _model(name: str, display: str, context: int | None, output: int | None) -> KnownModel:
    return KnownModel(name, display, context, output)


_MANUAL_ONLY = ModelFacts(KnownModel(""), adaptive=False, effort=False, system_messages=False)
_ADAPTIVE_ONLY = ModelFacts(KnownModel(""), sampling=False, manual=False)
_BY_DEFAULT = replace(_ADAPTIVE_ONLY, thinks_by_default=True)
_ALWAYS = replace(_BY_DEFAULT, off=Off.NEVER)
_NO_SCHEMAS = replace(_MANUAL_ONLY, schemas=False)
_NO_THINKING = replace(_NO_SCHEMAS, manual=False, summarizes=False)
_ONE_OF_TWO = replace(_MANUAL_ONLY, temperature_with_top_p=False)

_FACTS: tuple[ModelFacts, ...] = (
    # The SDK lists 5.2 of Fable and Mythos; no page tells their sizes yet. They take what 5.1 takes.
    replace(_ALWAYS, known=_model("claude-fable-5-2", "Claude Fable 5.2", None, None), forced_tools=False),
    replace(_ALWAYS, known=_model("claude-mythos-5-2", "Claude Mythos 5.2", None, None), forced_tools=False),
    replace(_BY_DEFAULT, known=_model("claude-haiku-5-5", "Claude Haiku 5.5", _MILLION, _128K)),
    replace(
        _BY_DEFAULT,
        known=_model("claude-sonnet-5-5", "Claude Sonnet 5.5", _MILLION, _128K),
        off=Off.BETWEEN_TOOLS,
        forced_tools=False,
    ),
    replace(_ALWAYS, known=_model("claude-fable-5-1", "Claude Fable 5.1", _MILLION, _128K), forced_tools=False),
    replace(_ALWAYS, known=_model("claude-opus-5-5", "Claude Opus 5.5", _MILLION, _128K), forced_tools=False),
    replace(_ALWAYS, known=_model("claude-mythos-5-1", "Claude Mythos 5.1", _MILLION, _128K), forced_tools=False),
    replace(_BY_DEFAULT, known=_model("claude-sonnet-5", "Claude Sonnet 5", _MILLION, _128K)),
    replace(_ALWAYS, known=_model("claude-fable-5", "Claude Fable 5", _MILLION, _128K)),
    replace(_ALWAYS, known=_model("claude-mythos-5", "Claude Mythos 5", _MILLION, _128K)),
    replace(_BY_DEFAULT, known=_model("claude-opus-5", "Claude Opus 5", _MILLION, _128K)),
    replace(_ADAPTIVE_ONLY, known=_model("claude-opus-4-8", "Claude Opus 4.8", _MILLION, _128K)),
    replace(_ADAPTIVE_ONLY, known=_model("claude-opus-4-7", "Claude Opus 4.7", _MILLION, _128K), system_messages=False),
    replace(
        _ALWAYS,
        known=_model("claude-mythos-preview", "Claude Mythos Preview", None, None),
        manual=True,
        system_messages=False,
    ),
    ModelFacts(_model("claude-opus-4-6", "Claude Opus 4.6", _MILLION, _128K), system_messages=False),
    ModelFacts(_model("claude-sonnet-4-6", "Claude Sonnet 4.6", _MILLION, _128K), system_messages=False),
    replace(_ONE_OF_TWO, known=_model("claude-haiku-4-5", "Claude Haiku 4.5", _200K, _64K)),
    replace(_ONE_OF_TWO, known=_model("claude-opus-4-5", "Claude Opus 4.5", _200K, _64K), effort=True),
    replace(_ONE_OF_TWO, known=_model("claude-sonnet-4-5", "Claude Sonnet 4.5", _200K, _64K)),
    replace(_ONE_OF_TWO, known=_model("claude-opus-4-1", "Claude Opus 4.1", _200K, 32_000)),
    replace(_NO_SCHEMAS, known=_model("claude-opus-4", "Claude Opus 4", _200K, 32_000)),
    replace(_NO_SCHEMAS, known=_model("claude-sonnet-4", "Claude Sonnet 4", _200K, _64K)),
    replace(_NO_SCHEMAS, known=_model("claude-3-7-sonnet", "Claude Sonnet 3.7", _200K, _64K), summarizes=False),
    replace(_NO_THINKING, known=_model("claude-3-5-haiku", "Claude Haiku 3.5", _200K, 8_192)),
    replace(_NO_THINKING, known=_model("claude-3-5-sonnet", "Claude Sonnet 3.5", _200K, 8_192)),
    replace(_NO_THINKING, known=_model("claude-3-opus", "Claude Opus 3", _200K, 4_096)),
    replace(_NO_THINKING, known=_model("claude-3-sonnet", "Claude Sonnet 3", _200K, 4_096)),
    replace(_NO_THINKING, known=_model("claude-3-haiku", "Claude Haiku 3", _200K, 4_096)),
)

_BY_NAME = {facts.known.name: facts for facts in _FACTS}

#: Retired models stay in the facts, since other servers still offer them, but are not advertised.
_RETIRED = re.compile(r"claude-3|claude-(opus|sonnet)-4$|claude-opus-4-1$")

KNOWN_MODELS: tuple[KnownModel, ...] = tuple(facts.known for facts in _FACTS if not _RETIRED.match(facts.known.name))

_AS_OF = "2026-11-21"
_DOCS = "https://platform.claude.com/docs/en/"


def _editions(*names: str) -> tuple[str, ...]:
    """Return patterns of all names of models: with a place before them, with a date or a version behind."""
    endings = ("", "-2???????*", "@*", ":*", "-v[0-9]*", "-latest", "-0")
    dotted = {name: re.sub(r"(?<=\d)-(?=\d)", ".", name) for name in names}
    return tuple(f"*{name}{ending}" for pair in dotted.items() for name in dict.fromkeys(pair) for ending in endings)


#: What Claude's models can do. A name that is none of theirs is a model of another server of this format.
CAPABILITIES: tuple[CapabilityRow, ...] = (
    CapabilityRow(
        supported=named("streaming"),
        unsupported=named("seed", "logprobs", "audio_input", "embeddings"),
        source="anthropic 2.11: types/message_create_params.py, types/content_block_param.py",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("*claude-*",),
        supported=named("tools", "parallel_tools", "thinking", "structured_output", "image_input", "pdf_input")
        | named("prompt_caching", "batch"),
        source=f"{_DOCS}build-with-claude/overview",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=_editions("claude-opus-4-1"),
        unknown=named("structured_output"),
        source=f"{_DOCS}build-with-claude/structured-outputs",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=_editions("claude-opus-4", "claude-sonnet-4", "claude-3-7-sonnet"),
        unsupported=named("structured_output"),
        source=f"{_DOCS}build-with-claude/structured-outputs",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=_editions("claude-3-5-haiku", "claude-3-5-sonnet", "claude-3-opus", "claude-3-sonnet", "claude-3-haiku"),
        unsupported=named("structured_output", "thinking"),
        unknown=named("image_input", "pdf_input", "parallel_tools"),
        source=f"{_DOCS}about-claude/models/extended-thinking-models",
        as_of=_AS_OF,
    ),
    *context_windows("genai-prices 0.2.3", _AS_OF, (1_000_000, ("claude-fable-5-2", "claude-mythos-5-2"))),
)

#: What the clouds and gateways write around a model's name: a place before it, a date or a version after it.
_PLACE = re.compile(r".*[/]|(?:[a-z]{2,6}\.)?anthropic\.")
_VERSION = re.compile(r"(?:@.*|-v\d+(?::\d+)?(?::.*)?|:.*|-latest|-\d{8}.*|-0)$")


def facts_of(model: str) -> ModelFacts:
    """Return what is known of a model, also under the names of clouds and gateways; UNLISTED: nothing."""
    name = _PLACE.sub("", model.lower(), count=1).replace(".", "-")
    while name not in _BY_NAME:
        shorter = _VERSION.sub("", name)
        if shorter == name:
            return UNLISTED
        name = shorter
    return _BY_NAME[name]
