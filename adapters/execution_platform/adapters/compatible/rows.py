"""The servers. A further one is a further row; :class:`~.row.Row` and the dialect say what can be told of it.

Sources are the servers' own API references and, where these are silent, recorded traffic. An option that a server
ignores without a word is treated as one that it does not have.
"""

from __future__ import annotations

from execution_platform.adapters.compatible.row import API_OPTION, Row
from execution_platform.adapters.openai_api.dialect import COMPATIBLE_PLACES, OPENAI_PLACES, Dialect, ModelRule
from execution_platform.adapters.spi import PriceListing, ProviderOption

__all__ = ["ROWS"]


def _places(*, without: tuple[str, ...] = ()) -> dict[str, str]:
    return {field: place for field, place in COMPATIBLE_PLACES.items() if field not in without}


_TOP_K = {"sampling.top_k": "top_k"}
_PENALTIES = ("sampling.frequency_penalty", "sampling.presence_penalty")
_LOGPROBS = ("sampling.logprobs", "sampling.top_logprobs")
_THINKING_ON = {"thinking": {"type": "enabled"}}
_THINKING_OFF = {"thinking": {"type": "disabled"}}
_TEMPLATE_THINKING_ON = {"chat_template_kwargs": {"enable_thinking": True}}
_TEMPLATE_THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_MINUTES_AND_HOUR = {300: "5m", 3600: "1h"}

_AZURE = Row(
    display_name="Azure OpenAI",
    options=(
        ProviderOption(
            "api_version",
            "Version of Azure's API: `v1`, or a date such as `2024-10-21` for addresses with deployments.",
            "v1",
        ),
        API_OPTION,
    ),
    prices=PriceListing("azure", audio_apart=True),
    dialect=Dialect(
        provider="azure",
        # Not OpenAI's: encrypted reasoning is bound to the resource that made it.
        family="azure",
        auth="api-key",
        address="azure",
        places={**OPENAI_PLACES, "context.end_user_id": "user"},
        media=frozenset({"image", "audio", "file", "file_id"}),
        custom_tools=True,
        allowed_tools=True,
        reasoning_off={"reasoning_effort": "none"},
        stream_audio_format="pcm16",
        # xAI's models on Azure report a hidden prefix as cached, apart from the prompt.
        rules=(ModelRule(models=("grok*",), cached_outside=True),),
    ),
)

_CEREBRAS = Row(
    display_name="Cerebras",
    base_url="https://api.cerebras.ai/v1",
    prices=PriceListing("cerebras"),
    dialect=Dialect(
        provider="cerebras",
        family="cerebras",
        places=_places(without=(*_PENALTIES,)) | {"sampling.max_output_tokens": "max_completion_tokens"},
        text_parts=False,
        media=frozenset(),
        reasoning_shown={},
    ),
)

_COMPATIBLE = Row(
    display_name="Any server of OpenAI's format",
    needs_key=False,
    options=(API_OPTION,),
    dialect=Dialect(provider="compatible", family="compatible", reasoning_shown={}),
)

_DATABRICKS = Row(
    display_name="Databricks",
    prices=PriceListing("databricks"),
    dialect=Dialect(
        provider="databricks",
        family="databricks",
        places={
            "sampling.max_output_tokens": "max_tokens",
            "sampling.temperature": "temperature",
            "sampling.top_p": "top_p",
            "sampling.top_k": "top_k",
            "sampling.stop_sequences": "stop",
            "sampling.logprobs": "logprobs",
            "sampling.top_logprobs": "top_logprobs",
            "reasoning.effort": "reasoning_effort",
            "reasoning.budget_tokens": "thinking.budget_tokens",
        },
        # Usage comes with every chunk.
        stream_usage=False,
        named_roles=False,
        cache_breakpoints="anthropic",
        breakpoint_ttls=_MINUTES_AND_HOUR,
        reasoning_on=_THINKING_ON,
        reasoning_off=_THINKING_OFF,
        reasoning_shown={},
        reasoning_replay="content",
    ),
)

_DEEPSEEK = Row(
    display_name="DeepSeek",
    base_url="https://api.deepseek.com",
    default_model="deepseek-chat",
    rank=44,
    prices=PriceListing("deepseek"),
    dialect=Dialect(
        provider="deepseek",
        family="deepseek",
        places=_places(
            without=(
                "sampling.seed",
                "sampling.logit_bias",
                "parallel_tool_calls",
                "context.end_user_id",
            )
        ),
        media=frozenset(),
        text_parts=False,
        json_schema=False,
        cache_on={},
        reasoning_on=_THINKING_ON,
        reasoning_off=_THINKING_OFF,
        reasoning_shown={},
        # A turn with tools is refused without the reasoning before its calls. Source: api-docs.deepseek.com.
        reasoning_replay="reasoning_content",
    ),
)

_DOUBLEWORD = Row(
    display_name="Doubleword",
    base_url="https://api.doubleword.ai/v1",
    prices=PriceListing("doubleword"),
    dialect=Dialect(
        provider="doubleword",
        family="doubleword",
        places=_places() | _TOP_K,
        reasoning_shown={},
        reasoning_replay="reasoning_content",
    ),
)

_FIREWORKS = Row(
    display_name="Fireworks",
    base_url="https://api.fireworks.ai/inference/v1",
    prices=PriceListing("fireworks"),
    dialect=Dialect(
        provider="fireworks",
        family="fireworks",
        places=_places() | _TOP_K,
        named_choice=True,
        cache_on={},
        reasoning_off={"reasoning_effort": "none"},
        reasoning_shown={},
        reasoning_replay="reasoning_content",
    ),
)

_GROQ = Row(
    display_name="Groq",
    base_url="https://api.groq.com/openai/v1",
    options=(API_OPTION,),
    prices=PriceListing("groq"),
    dialect=Dialect(
        provider="groq",
        family="groq",
        # These are refused rather than ignored. Source: console.groq.com/docs/openai.
        places=_places(
            without=(
                "sampling.logit_bias",
                *_LOGPROBS,
            )
        )
        | {"sampling.max_output_tokens": "max_completion_tokens", "service_tier": "service_tier"},
        named_roles=False,
        cache_on={},
        reasoning_on={},
        reasoning_off={"reasoning_effort": "none"},
        reasoning_hidden={"include_reasoning": False},
        reasoning_shown={"include_reasoning": True},
        reasoning_replay="reasoning",
    ),
)

_HUGGINGFACE = Row(
    display_name="Hugging Face",
    base_url="https://router.huggingface.co/v1",
    dialect=Dialect(provider="huggingface", family="huggingface", reasoning_shown={}),
)

_LLAMACPP = Row(
    display_name="llama.cpp",
    base_url="http://127.0.0.1:8080/v1",
    needs_key=False,
    # A server of one model takes any name for it.
    default_model="default",
    dialect=Dialect(
        provider="llamacpp",
        family="llamacpp",
        # After a streamed answer it closes the connection without saying so; the next request would meet that.
        headers={"Connection": "close"},
        places=_places(without=("context.end_user_id",))
        | _TOP_K
        | {
            "reasoning.effort": "chat_template_kwargs.reasoning_effort",
            "reasoning.budget_tokens": "thinking_budget_tokens",
        },
        media=frozenset({"image", "audio"}),
        # The form that names a tool is taken as "auto".
        named_choice=False,
        cache_on={"cache_prompt": True},
        cache_off={"cache_prompt": False},
        reasoning_on=_TEMPLATE_THINKING_ON,
        reasoning_off=_TEMPLATE_THINKING_OFF,
        reasoning_shown={},
        reasoning_replay="reasoning_content",
    ),
)

_LMSTUDIO = Row(
    display_name="LM Studio",
    base_url="http://127.0.0.1:1234/v1",
    needs_key=False,
    options=(API_OPTION,),
    dialect=Dialect(
        provider="lmstudio",
        family="lmstudio",
        places=_places(
            without=(
                "context.end_user_id",
                "parallel_tool_calls",
                *_LOGPROBS,
            )
        )
        | _TOP_K,
        json_object=False,
        named_choice=False,
        cache_on={},
        reasoning_shown={},
    ),
)

_BEDROCK_MANTLE = Row(
    display_name="Bedrock (OpenAI format)",
    options=(API_OPTION,),
    prices=PriceListing("aws"),
    dialect=Dialect(
        provider="bedrock_mantle",
        family="bedrock_mantle",
        places=_places() | {"sampling.max_output_tokens": "max_completion_tokens", "service_tier": "service_tier"},
        media=frozenset({"image", "audio"}),
        reasoning_shown={},
    ),
)

_MISTRAL = Row(
    display_name="Mistral",
    base_url="https://api.mistral.ai/v1",
    default_model="mistral-small-latest",
    rank=42,
    prices=PriceListing("mistral"),
    dialect=Dialect(
        provider="mistral",
        family="mistral",
        places=_places(
            without=(
                "sampling.logit_bias",
                "context.end_user_id",
                *_LOGPROBS,
            )
        )
        | {"sampling.seed": "random_seed"},
        # Usage comes with the last chunk; options that it does not know are refused.
        stream_usage=False,
        media=frozenset({"image", "bare_audio", "document_url"}),
        named_roles=False,
        required_choice="any",
        call_ids=("[a-zA-Z0-9]{9}", 9),
        prefix_key="prefix",
        reasoning_on={"prompt_mode": "reasoning"},
        reasoning_off={"reasoning_effort": "none"},
        reasoning_shown={},
        reasoning_replay="content",
    ),
)

_MOONSHOT = Row(
    display_name="Moonshot",
    base_url="https://api.moonshot.ai/v1",
    prices=PriceListing("moonshotai"),
    dialect=Dialect(
        provider="moonshot",
        family="moonshot",
        places=_places(
            without=(
                "sampling.seed",
                "sampling.logit_bias",
                *_LOGPROBS,
            )
        )
        | {"cache.key": "prompt_cache_key"},
        media=frozenset({"image", "video"}),
        cache_on={},
        reasoning_on=_THINKING_ON,
        reasoning_off=_THINKING_OFF,
        reasoning_shown={},
        reasoning_replay="reasoning_content",
    ),
)

_OLLAMA = Row(
    display_name="Ollama",
    base_url="http://127.0.0.1:11434/v1",
    needs_key=False,
    dialect=Dialect(
        provider="ollama",
        family="ollama",
        places=_places(
            without=(
                "sampling.logit_bias",
                "parallel_tool_calls",
                "context.end_user_id",
            )
        ),
        unsupported=frozenset({"tool_choice"}),
        strict_tools=False,
        cache_on={},
        reasoning_on={"reasoning_effort": "medium"},
        reasoning_off={"reasoning_effort": "none"},
        reasoning_shown={},
        reasoning_replay="reasoning",
    ),
)

_OPENROUTER = Row(
    display_name="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    default_model="openrouter/auto",
    rank=40,
    options=(API_OPTION,),
    prices=PriceListing("openrouter"),
    dialect=Dialect(
        provider="openrouter",
        family="openrouter",
        places=_places()
        | _TOP_K
        | {
            "reasoning.effort": "reasoning.effort",
            "reasoning.budget_tokens": "reasoning.max_tokens",
            "output_format.verbosity": "verbosity",
            "output_modalities": "modalities",
            "audio_output": "audio",
            "service_tier": "service_tier",
        },
        media=frozenset({"image", "audio", "file", "file_url", "video"}),
        tool_media=True,
        cache_breakpoints="anthropic",
        breakpoint_ttls=_MINUTES_AND_HOUR,
        cache_on={"cache_control": {"type": "ephemeral"}},
        reasoning_on={"reasoning": {"enabled": True}},
        reasoning_off={"reasoning": {"enabled": False}},
        reasoning_hidden={"reasoning": {"exclude": True}},
        reasoning_shown={"reasoning": {"exclude": False}},
        reasoning_replay="reasoning_details",
        stream_audio_format="pcm16",
        replay_annotations=True,
        usage_after_error=True,
    ),
)

_PERPLEXITY = Row(
    display_name="Perplexity",
    base_url="https://api.perplexity.ai",
    default_model="sonar",
    prices=PriceListing("perplexity"),
    dialect=Dialect(
        provider="perplexity",
        family="perplexity",
        places=_places(
            without=(
                "sampling.seed",
                "sampling.logit_bias",
                "parallel_tool_calls",
                "context.end_user_id",
                *_LOGPROBS,
            )
        )
        | _TOP_K,
        unsupported=frozenset({"tools"}),
        json_object=False,
        named_roles=False,
        reasoning_shown={},
    ),
)

_SNOWFLAKE = Row(
    display_name="Snowflake Cortex",
    dialect=Dialect(
        provider="snowflake",
        family="snowflake",
        places={
            "sampling.max_output_tokens": "max_completion_tokens",
            "sampling.temperature": "temperature",
            "sampling.top_p": "top_p",
            "sampling.stop_sequences": "stop",
            "reasoning.effort": "reasoning.effort",
            "reasoning.budget_tokens": "reasoning.max_tokens",
            "context.end_user_id": "user",
        },
        json_object=False,
        cache_breakpoints="anthropic",
        breakpoint_ttls=_MINUTES_AND_HOUR,
        reasoning_shown={},
        reasoning_replay="reasoning_details",
    ),
)

_TOGETHER = Row(
    display_name="Together",
    base_url="https://api.together.xyz/v1",
    prices=PriceListing("together"),
    dialect=Dialect(
        provider="together",
        family="together",
        places=_places(
            without=(
                "parallel_tool_calls",
                "context.end_user_id",
            )
        )
        | _TOP_K,
        media=frozenset({"image", "video"}),
        reasoning_on={"reasoning": {"enabled": True}},
        reasoning_off={"reasoning": {"enabled": False}},
        reasoning_shown={},
    ),
)

_VENICE = Row(
    display_name="Venice",
    base_url="https://api.venice.ai/api/v1",
    dialect=Dialect(
        provider="venice",
        family="venice",
        places=_places() | _TOP_K | {"cache.key": "prompt_cache_key"},
        media=frozenset({"image", "audio", "video"}),
        reasoning_off={"venice_parameters": {"disable_thinking": True}},
        reasoning_shown={},
        reasoning_replay="reasoning_content",
    ),
)

_VLLM = Row(
    display_name="vLLM",
    base_url="http://127.0.0.1:8000/v1",
    needs_key=False,
    options=(API_OPTION,),
    dialect=Dialect(
        provider="vllm",
        family="vllm",
        places=_places() | _TOP_K,
        media=frozenset({"image", "audio", "video"}),
        tool_media=True,
        cache_on={},
        reasoning_on=_TEMPLATE_THINKING_ON,
        reasoning_off=_TEMPLATE_THINKING_OFF,
        reasoning_hidden={"include_reasoning": False},
        reasoning_shown={"include_reasoning": True},
        reasoning_replay="reasoning",
    ),
)

_XAI = Row(
    display_name="xAI",
    base_url="https://api.x.ai/v1",
    options=(API_OPTION,),
    prices=PriceListing("x-ai"),
    dialect=Dialect(
        provider="xai",
        family="xai",
        places=_places(without=("sampling.logit_bias",)),
        cache_on={},
        reasoning_shown={},
        reasoning_replay="reasoning_content",
        # Models that always reason refuse these. Source: docs.x.ai, reasoning.
        rules=(
            ModelRule(
                models=("grok-4", "grok-4-0*", "grok-4-latest", "grok-code*", "grok-*-fast-reasoning*"),
                unsupported=frozenset({*_PENALTIES, "sampling.stop_sequences", "reasoning.effort"}),
            ),
            ModelRule(models=("grok-3-mini*",), unsupported=frozenset({*_PENALTIES, "sampling.stop_sequences"})),
        ),
    ),
)

_ZAI = Row(
    display_name="Z.ai",
    base_url="https://api.z.ai/api/paas/v4",
    prices=PriceListing("zai"),
    dialect=Dialect(
        provider="zai",
        family="zai",
        places={
            "sampling.max_output_tokens": "max_tokens",
            "sampling.temperature": "temperature",
            "sampling.top_p": "top_p",
            "sampling.stop_sequences": "stop",
            "context.end_user_id": "user_id",
        },
        # Usage comes with the last chunk.
        stream_usage=False,
        media=frozenset({"image", "video"}),
        json_schema=False,
        named_choice=False,
        named_roles=False,
        cache_on={},
        reasoning_on=_THINKING_ON,
        reasoning_off=_THINKING_OFF,
        reasoning_shown={},
        reasoning_replay="reasoning_content",
    ),
)

ROWS: tuple[Row, ...] = (
    _AZURE,
    _BEDROCK_MANTLE,
    _CEREBRAS,
    _COMPATIBLE,
    _DATABRICKS,
    _DEEPSEEK,
    _DOUBLEWORD,
    _FIREWORKS,
    _GROQ,
    _HUGGINGFACE,
    _LLAMACPP,
    _LMSTUDIO,
    _MISTRAL,
    _MOONSHOT,
    _OLLAMA,
    _OPENROUTER,
    _PERPLEXITY,
    _SNOWFLAKE,
    _TOGETHER,
    _VENICE,
    _VLLM,
    _XAI,
    _ZAI,
)
