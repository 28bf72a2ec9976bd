"""Which options each family of models at Bedrock takes. Data only.

Sources, read in November 2026: "Supported models and model features" (Converse) as far as the older models of AI21,
Amazon, Anthropic, Cohere, Meta (to Llama 3.2) and Mistral (to Large 2); which of the others stream no calls of tools is
what ``langchain-aws`` has from there (``ChatBedrockConverse._get_streaming_support``), and what users report; "Tool
use", "Prompt caching", "Get validated JSON results from models" and the model cards of the Amazon Bedrock User Guide;
"Extended thinking in Amazon Nova 2" of the Amazon Nova User Guide; for what Claude's generations take the pages of the
models under https://platform.claude.com/docs/en/models/. Where they are silent it is None: the option is passed on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["FAMILIES", "UNLISTED", "Maker", "ModelFacts", "Thinks"]


class Maker(Enum):
    """Whose words an option beyond Converse's own is given in."""

    CLAUDE = "claude"
    NOVA = "nova"
    GPT_OSS = "gpt-oss"
    COHERE = "cohere"
    OTHER = ""


class Thinks(Enum):
    """How a model is told to think."""

    NEVER = "never"
    BUDGET = "budget"
    BUDGET_OR_FREELY = "budget or freely"
    FREELY = "freely"
    ALWAYS_FREELY = "always, freely"
    EFFORT = "effort"
    ALWAYS_EFFORT = "always, effort"
    ALWAYS = "always"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the models take whose ids begin so. None: not known.

    Attributes:
        stem: beginning of the ids, without region and geography; empty: of no model.
        maker: whose words further options are given in.
        thinks: how they are told to think.
        tools: they call tools.
        streams_tools: they do so in a streamed answer; False: they must be asked for a whole one.
        parallel: they call several tools in one turn.
        forced: they take the tool choice "any".
        named: they take the choice of one tool.
        images, documents, videos, audio: they take such media.
        citations: they cite from documents.
        schemas: answers keep to a schema.
        caches: they take cache points.
        caches_tools: also behind tools.
        caches_an_hour: for an hour, too.
        system: they take instructions before the conversation.
        system_messages: also in the middle of it.
        sampling: they take temperature and top_p.
        one_of_sampling: but only one of both.
        effort: they take `outputConfig.effort`.
        signs: their reasoning is signed; False: they take none that is.
        display: it can be chosen how much of the reasoning is shown.
        window: most tokens of prompt and answer, where the price list has no size that holds for all of them.
        most_output: most tokens of an answer.
        source: where that is said.
    """

    stem: str
    maker: Maker = Maker.OTHER
    thinks: Thinks = Thinks.UNKNOWN
    tools: bool | None = None
    streams_tools: bool = True
    parallel: bool | None = None
    forced: bool | None = None
    named: bool | None = None
    images: bool | None = None
    documents: bool | None = None
    videos: bool | None = None
    audio: bool | None = None
    citations: bool | None = None
    schemas: bool | None = None
    caches: bool | None = None
    caches_tools: bool | None = None
    caches_an_hour: bool | None = None
    system: bool = True
    system_messages: bool = False
    sampling: bool = True
    one_of_sampling: bool = False
    effort: bool | None = None
    signs: bool | None = None
    display: bool | None = None
    window: int | None = None
    most_output: int | None = None
    source: str = ""

    @property
    def listed(self) -> bool:
        """Whether anything is known of the model."""
        return bool(self.stem)


UNLISTED = ModelFacts("")
"""A model of which nothing is known, such as one behind an application inference profile."""

_GUIDE = "https://docs.aws.amazon.com/bedrock/latest/userguide/"
_FEATURES = f"{_GUIDE}conversation-inference-supported-models-features.html"
_SCHEMAS = f"{_GUIDE}structured-output.html"
_CARDS = f"{_GUIDE}model-cards.html"
_PIXTRAL = f"{_GUIDE}model-parameters-mistral-pixtral-large.html"
_PALMYRA = f"{_GUIDE}model-parameters-writer-palmyra.html"
_NOVA_2 = "https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html"

_128K = 128_000
_64K = 64_000

# -- Anthropic

_CLAUDE = ModelFacts(
    "anthropic.claude",
    Maker.CLAUDE,
    Thinks.NEVER,
    tools=True,
    parallel=True,
    forced=True,
    named=True,
    images=True,
    documents=True,
    videos=False,
    audio=False,
    schemas=False,
    caches=False,
    effort=False,
    signs=True,
    display=False,
    source=_FEATURES,
)
_CLAUDE_CACHING = replace(_CLAUDE, caches=True, caches_tools=True, caches_an_hour=False, citations=True)
_CLAUDE_4 = replace(_CLAUDE_CACHING, thinks=Thinks.BUDGET, display=True)
_CLAUDE_45 = replace(_CLAUDE_4, schemas=True, caches_an_hour=True, one_of_sampling=True, most_output=_64K)
_CLAUDE_46 = replace(
    _CLAUDE_45, thinks=Thinks.BUDGET_OR_FREELY, one_of_sampling=False, effort=True, most_output=_128K, source=_CARDS
)
_CLAUDE_47 = replace(_CLAUDE_46, thinks=Thinks.FREELY, sampling=False)
# Unlike at Anthropic itself, their thinking cannot be switched off here.
_CLAUDE_5 = replace(_CLAUDE_47, thinks=Thinks.ALWAYS_FREELY, system_messages=True)
_CLAUDE_5_UNFORCED = replace(_CLAUDE_5, forced=False, named=False)

_ANTHROPIC = (
    # A generation that is not listed yet: likely to take what the newest take, but nobody has said so.
    replace(
        UNLISTED,
        stem="anthropic.claude",
        maker=Maker.CLAUDE,
        tools=True,
        parallel=True,
        images=True,
        documents=True,
        caches=True,
        caches_tools=True,
        signs=True,
        source=_FEATURES,
    ),
    replace(_CLAUDE, stem="anthropic.claude-v2", tools=False, parallel=False, forced=False, images=False),
    replace(_CLAUDE, stem="anthropic.claude-instant", tools=False, parallel=False, forced=False, images=False),
    replace(_CLAUDE, stem="anthropic.claude-3-haiku", most_output=4_096),
    replace(_CLAUDE, stem="anthropic.claude-3-sonnet", most_output=4_096),
    replace(_CLAUDE, stem="anthropic.claude-3-opus", most_output=4_096),
    replace(_CLAUDE, stem="anthropic.claude-3-5-sonnet", most_output=8_192, citations=None, caches=None),
    replace(_CLAUDE_CACHING, stem="anthropic.claude-3-5-haiku", images=False, most_output=8_192),
    replace(_CLAUDE_4, stem="anthropic.claude-3-7-sonnet", display=False, most_output=_128K),
    replace(_CLAUDE_4, stem="anthropic.claude-opus-4", most_output=32_000),
    replace(_CLAUDE_4, stem="anthropic.claude-sonnet-4", most_output=_64K),
    replace(_CLAUDE_4, stem="anthropic.claude-opus-4-1", most_output=32_000, one_of_sampling=True, schemas=None),
    replace(_CLAUDE_45, stem="anthropic.claude-sonnet-4-5"),
    replace(_CLAUDE_45, stem="anthropic.claude-haiku-4-5"),
    replace(_CLAUDE_45, stem="anthropic.claude-opus-4-5", effort=True),
    replace(_CLAUDE_46, stem="anthropic.claude-opus-4-6"),
    replace(_CLAUDE_46, stem="anthropic.claude-sonnet-4-6"),
    replace(_CLAUDE_47, stem="anthropic.claude-opus-4-7"),
    replace(_CLAUDE_47, stem="anthropic.claude-opus-4-8", system_messages=True),
    replace(_CLAUDE_5, stem="anthropic.claude-sonnet-5"),
    replace(_CLAUDE_5, stem="anthropic.claude-opus-5"),
    replace(_CLAUDE_5, stem="anthropic.claude-fable-5"),
    replace(_CLAUDE_5, stem="anthropic.claude-mythos-5"),
    replace(_CLAUDE_5, stem="anthropic.claude-haiku-5-5"),
    replace(_CLAUDE_5_UNFORCED, stem="anthropic.claude-sonnet-5-5"),
    replace(_CLAUDE_5_UNFORCED, stem="anthropic.claude-opus-5-5"),
    replace(_CLAUDE_5_UNFORCED, stem="anthropic.claude-fable-5-1"),
    replace(_CLAUDE_5_UNFORCED, stem="anthropic.claude-fable-5-2", most_output=None),
    replace(_CLAUDE_5_UNFORCED, stem="anthropic.claude-mythos-5-1"),
    replace(_CLAUDE_5_UNFORCED, stem="anthropic.claude-mythos-5-2", most_output=None),
)

# -- Amazon

_NOVA = ModelFacts(
    "amazon.nova",
    Maker.NOVA,
    Thinks.NEVER,
    tools=True,
    parallel=True,
    forced=True,
    named=True,
    images=True,
    documents=True,
    videos=True,
    audio=False,
    schemas=False,
    caches=True,
    caches_tools=False,
    caches_an_hour=False,
    effort=False,
    signs=False,
    display=False,
    source=_FEATURES,
)
_TITAN = ModelFacts(
    "amazon.titan",
    thinks=Thinks.NEVER,
    tools=False,
    parallel=False,
    forced=False,
    named=False,
    images=False,
    documents=True,
    videos=False,
    audio=False,
    citations=False,
    schemas=False,
    caches=False,
    system=False,
    effort=False,
    signs=False,
    source=_FEATURES,
)

_AMAZON = (
    replace(_NOVA, stem="amazon.nova-lite"),
    replace(_NOVA, stem="amazon.nova-pro"),
    replace(_NOVA, stem="amazon.nova-premier"),
    replace(_NOVA, stem="amazon.nova-micro", images=False, documents=False, videos=False, citations=False),
    replace(_NOVA, stem="amazon.nova-2", thinks=Thinks.EFFORT, audio=None, schemas=None, source=_NOVA_2),
    replace(_NOVA, stem="amazon.nova-2-lite", thinks=Thinks.EFFORT, schemas=None, window=1_000_000, source=_NOVA_2),
    _TITAN,
    replace(_TITAN, stem="amazon.titan-text-premier", documents=False),
)

# -- Others

_TEXT = ModelFacts(
    "",
    thinks=Thinks.NEVER,
    tools=False,
    parallel=False,
    forced=False,
    named=False,
    images=False,
    documents=True,
    videos=False,
    audio=False,
    citations=False,
    schemas=False,
    caches=False,
    effort=False,
    signs=False,
    source=_FEATURES,
)
_WITH_TOOLS = replace(_TEXT, tools=True, parallel=None)
_LLAMA = replace(_WITH_TOOLS, streams_tools=False)
_LLAMA_SEES = replace(_LLAMA, images=True)
_MISTRAL_UNTABLED = replace(_WITH_TOOLS, streams_tools=False, documents=None, forced=None)
#: Models with open weights that Bedrock serves behind the words of Chat Completions.
_OPEN = ModelFacts(
    "",
    tools=True,
    images=False,
    videos=False,
    audio=False,
    citations=False,
    schemas=True,
    caches=False,
    source=_SCHEMAS,
)
_OPEN_SEES = replace(_OPEN, images=True)

_OTHERS = (
    replace(_WITH_TOOLS, stem="ai21.jamba-1-5"),
    replace(_TEXT, stem="ai21.jamba-instruct", documents=False),
    replace(_WITH_TOOLS, stem="cohere.command-r", maker=Maker.COHERE),
    replace(_TEXT, stem="cohere.command", system=False, maker=Maker.COHERE),
    replace(_TEXT, stem="cohere.command-light", documents=False, system=False, maker=Maker.COHERE),
    replace(_TEXT, stem="deepseek.r1", thinks=Thinks.ALWAYS, documents=None, signs=None, source=_CARDS),
    replace(_OPEN, stem="deepseek.v3"),
    replace(_OPEN_SEES, stem="google.gemma-3", thinks=Thinks.NEVER),
    replace(_TEXT, stem="meta.llama2"),
    replace(_TEXT, stem="meta.llama3"),
    replace(_LLAMA, stem="meta.llama3-1"),
    replace(_TEXT, stem="meta.llama3-2-1b"),
    replace(_TEXT, stem="meta.llama3-2-3b"),
    replace(_LLAMA_SEES, stem="meta.llama3-2-11b"),
    replace(_LLAMA_SEES, stem="meta.llama3-2-90b"),
    replace(_LLAMA, stem="meta.llama3-3", documents=None, source=_CARDS),
    replace(_LLAMA_SEES, stem="meta.llama4", documents=None, source=_CARDS),
    replace(_OPEN, stem="minimax.minimax-m2", thinks=Thinks.ALWAYS),
    replace(_TEXT, stem="mistral.mistral-7b", system=False),
    replace(_TEXT, stem="mistral.mixtral-8x7b", system=False),
    replace(_WITH_TOOLS, stem="mistral.mistral-large-2402", streams_tools=False, forced=True),
    replace(_WITH_TOOLS, stem="mistral.mistral-large-2407", streams_tools=False, forced=True),
    replace(_MISTRAL_UNTABLED, stem="mistral.mistral-small-2402", source=_CARDS),
    replace(_MISTRAL_UNTABLED, stem="mistral.pixtral-large", images=True, source=_PIXTRAL),
    replace(_OPEN_SEES, stem="mistral.mistral-large-3", thinks=Thinks.NEVER),
    replace(_OPEN_SEES, stem="mistral.ministral-3", thinks=Thinks.NEVER),
    replace(_OPEN_SEES, stem="mistral.magistral-small", thinks=Thinks.ALWAYS),
    replace(_OPEN, stem="mistral.voxtral", audio=True, thinks=Thinks.NEVER),
    replace(_OPEN, stem="mistral.devstral", thinks=Thinks.NEVER),
    replace(_OPEN, stem="moonshot.kimi-k2-thinking", thinks=Thinks.ALWAYS),
    replace(_OPEN, stem="moonshotai.kimi-k2"),
    replace(_OPEN_SEES, stem="moonshotai.kimi-k3", caches=None, source=_CARDS),
    replace(_OPEN, stem="nvidia.nemotron", images=None),
    replace(_OPEN, stem="openai.gpt-oss", maker=Maker.GPT_OSS, thinks=Thinks.ALWAYS_EFFORT),
    replace(_OPEN, stem="qwen.qwen3"),
    replace(_OPEN_SEES, stem="qwen.qwen3-vl", thinks=Thinks.NEVER),
    replace(_OPEN, stem="qwen.qwen3-coder", thinks=Thinks.NEVER),
    replace(_WITH_TOOLS, stem="writer.palmyra-x", streams_tools=False, documents=None, schemas=None, source=_PALMYRA),
    replace(_OPEN, stem="zai.glm", images=None, caches=None),
)

FAMILIES: tuple[ModelFacts, ...] = (*_ANTHROPIC, *_AMAZON, *_OTHERS)
"""What is known, by beginnings of ids; the longest that fits holds."""
