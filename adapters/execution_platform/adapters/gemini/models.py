"""What is known of Gemini's models without asking.

Sources: the model pages of the Gemini API and the thinking page of Gemini's documentation, read in November 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from execution_platform.adapters.capabilities import named
from execution_platform.adapters.spi import CapabilityRow, KnownModel

__all__ = ["CAPABILITIES", "DEFAULT_API_VERSION", "DEFAULT_BASE_URL", "DEFAULT_MODEL", "MODELS", "Facts", "facts_of"]

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
DEFAULT_API_VERSION = "v1beta"

#: The newest general model that is not a preview.
DEFAULT_MODEL = "gemini-3.8-flash"

_WINDOW = 1_048_576
_ANSWER = 65_536

MODELS: tuple[KnownModel, ...] = (
    KnownModel("gemini-3.8-flash", "Gemini 3.8 Flash", _WINDOW, _ANSWER),
    KnownModel("gemini-3.7-flash", "Gemini 3.7 Flash", _WINDOW, _ANSWER),
    KnownModel("gemini-3.6-flash", "Gemini 3.6 Flash", _WINDOW, _ANSWER),
    KnownModel("gemini-3.5-flash", "Gemini 3.5 Flash", _WINDOW, _ANSWER),
    KnownModel("gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite", _WINDOW, _ANSWER),
    KnownModel("gemini-3.1-pro-preview", "Gemini 3.1 Pro", _WINDOW, _ANSWER),
    KnownModel("gemini-3.1-flash-lite", "Gemini 3.1 Flash-Lite", _WINDOW, _ANSWER),
    KnownModel("gemini-3-flash-preview", "Gemini 3 Flash", _WINDOW, _ANSWER),
    KnownModel("gemini-2.5-pro", "Gemini 2.5 Pro", _WINDOW, _ANSWER),
    KnownModel("gemini-2.5-flash", "Gemini 2.5 Flash", _WINDOW, _ANSWER),
    KnownModel("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite", _WINDOW, _ANSWER),
    KnownModel("gemini-flash-latest", "Gemini Flash, latest"),
    KnownModel("gemini-pro-latest", "Gemini Pro, latest"),
)

_ALL_LEVELS = ("minimal", "low", "medium", "high")
_NO_MINIMAL = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Facts:
    """How one model differs from the others.

    Attributes:
        levels: words that thinkingLevel takes, least first; empty: the model thinks by budget or not at all.
        budget: smallest and largest thinkingBudget above 0; None: no budget.
        can_stop_thinking: a budget of 0 switches thinking off.
        signed_calls: the model refuses function calls of the current turn that carry no signature.
        media_in_results: functionResponse takes media.
        sampling: temperature, topP, topK and the penalties are taken; newer models ignore or refuse them.
    """

    levels: tuple[str, ...] = ()
    budget: tuple[int, int] | None = None
    can_stop_thinking: bool = False
    signed_calls: bool = False
    media_in_results: bool = False
    sampling: bool = True

    @property
    def thinks(self) -> bool:
        """Whether the model thinks."""
        return bool(self.levels or self.budget)


_OLD = Facts()

#: First match counts.
_FACTS: tuple[tuple[re.Pattern[str], Facts], ...] = (
    (re.compile(r"^(gemini-(1\.|2\.0)|gemma|learnlm|aqa|text-|imagen|gemini-2\.5-flash-image|.*-tts$)"), _OLD),
    (re.compile(r"^gemini-2\.5-pro"), Facts(budget=(128, 32_768))),
    (re.compile(r"^gemini-2\.5-flash-lite"), Facts(budget=(512, 24_576), can_stop_thinking=True)),
    (re.compile(r"^gemini-2\.5"), Facts(budget=(1, 24_576), can_stop_thinking=True)),
    (re.compile(r"^gemini-3-pro-image"), Facts(levels=("high",), media_in_results=True)),
    (re.compile(r"^gemini-3\.1-flash.*image"), Facts(levels=("minimal", "high"), media_in_results=True)),
    (re.compile(r"^gemini-3-pro"), Facts(levels=("low", "high"), signed_calls=True, media_in_results=True)),
    (re.compile(r"^gemini-3\.1-pro"), Facts(levels=_NO_MINIMAL, signed_calls=True, media_in_results=True)),
    (
        re.compile(r"^gemini-3\.(5-flash-lite|6-flash)"),
        Facts(levels=_ALL_LEVELS, signed_calls=True, media_in_results=True, sampling=False),
    ),
    (re.compile(r"^gemini-3(\.[0-5])?-flash"), Facts(levels=_ALL_LEVELS, signed_calls=True, media_in_results=True)),
    (
        re.compile(r"^gemini-(3\.[6-9]|[4-9]|\d\d|flash(-lite)?-latest)"),
        Facts(levels=_NO_MINIMAL, signed_calls=True, media_in_results=True, sampling=False),
    ),
)
#: A name that says nothing: what it cannot take, its own server will tell.
_UNKNOWN = Facts(levels=_NO_MINIMAL, signed_calls=True, media_in_results=True)


def facts_of(model: str) -> Facts:
    """Return what is known of a model, by its name with or without ``models/``."""
    name = model.rsplit("/", 1)[-1].lower()
    return next((facts for pattern, facts in _FACTS if pattern.match(name)), _UNKNOWN)


_AS_OF = "2026-11-21"
_PAGES = "https://ai.google.dev/gemini-api/docs"

#: Models that make pictures or speech: what else they can do differs from one to the next.
_MAKERS = ("-image*", "-tts*", "-live*")

CAPABILITIES: tuple[CapabilityRow, ...] = (
    CapabilityRow(
        supported=named("streaming", "seed"),
        source="google-genai 3.4: types.py, GenerateContentConfig",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gemini-2.5-*", "gemini-3*", "gemini-flash-*latest", "gemini-pro-latest"),
        supported=named("tools", "parallel_tools", "thinking", "structured_output", "image_input", "pdf_input")
        | named("audio_input", "prompt_caching", "batch"),
        unsupported=named("embeddings"),
        context_window=_WINDOW,
        max_output_tokens=_ANSWER,
        source=f"{_PAGES}/models/gemini-3.7-flash",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=tuple(f"gemini-{line}{maker}" for line in ("2.5-*", "3*") for maker in _MAKERS),
        unknown=named("tools", "parallel_tools", "structured_output", "pdf_input", "audio_input", "image_input")
        | named("thinking", "prompt_caching", "batch"),
        source=f"{_PAGES}/models",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=(
            *("gemini-2.0-*", "gemini-1.*", "gemma*", "learnlm*", "text-embedding-*"),
            *("gemini-2.5-*-tts", "gemini-3*-tts", "gemini-2.5-flash-image*"),
        ),
        unsupported=named("thinking"),
        source=f"{_PAGES}/thinking",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gemini-embedding-*", "text-embedding-*"),
        supported=named("embeddings", "batch"),
        unknown=named("streaming", "seed"),
        source=f"{_PAGES}/embeddings",
        as_of=_AS_OF,
    ),
)
