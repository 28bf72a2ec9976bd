"""The output items of Responses that call tools, as data. Source: openai 3.52, types/responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CALLS", "OUTPUTS", "Call", "is_clients"]


@dataclass(frozen=True, slots=True)
class Call:
    """How an item calls a tool.

    Attributes:
        arguments: the item's key that holds the arguments.
        form: what is there: ``json`` a string with JSON, ``text`` a string of free text, ``value`` any JSON,
            ``list`` a value that becomes an object under its own key.
        name: the tool's name where the item has none.
        client: the caller runs the tool; None: another key decides, see is_clients.
        whole: the item holds the tool's result as well.
    """

    arguments: str
    form: Literal["json", "text", "value", "list"]
    name: str = ""
    client: bool | None = True
    whole: bool = False


CALLS: Mapping[str, Call] = {
    "function_call": Call("arguments", "json"),
    "custom_tool_call": Call("input", "text"),
    "computer_call": Call("action", "value", "computer"),
    "local_shell_call": Call("action", "value", "local_shell"),
    "shell_call": Call("action", "value", "shell", client=None),
    "apply_patch_call": Call("operation", "value", "apply_patch"),
    "tool_search_call": Call("arguments", "value", "tool_search", client=None),
    "mcp_approval_request": Call("arguments", "json"),
    "program": Call("code", "text", "program", client=False),
    "web_search_call": Call("action", "value", "web_search", client=False, whole=True),
    "x_search_call": Call("arguments", "json", "x_search", client=False, whole=True),
    "file_search_call": Call("queries", "list", "file_search", client=False, whole=True),
    "code_interpreter_call": Call("code", "text", "code_interpreter", client=False, whole=True),
    "image_generation_call": Call("revised_prompt", "list", "image_generation", client=False, whole=True),
    "mcp_call": Call("arguments", "json", client=False, whole=True),
}

#: Items that hold what a tool answered, and the type of the call that each answers.
OUTPUTS: Mapping[str, str] = {
    "function_call_output": "function_call",
    "custom_tool_call_output": "custom_tool_call",
    "computer_call_output": "computer_call",
    "local_shell_call_output": "local_shell_call",
    "shell_call_output": "shell_call",
    "apply_patch_call_output": "apply_patch_call",
    "tool_search_output": "tool_search_call",
    "mcp_approval_response": "mcp_approval_request",
    "program_output": "program",
}


def is_clients(kind: str, item: Mapping[str, object]) -> bool:
    """Tell whether the caller has to run the tool that an item calls."""
    call = CALLS[kind]
    if call.client is not None:
        return call.client
    if kind == "tool_search_call":
        return item.get("execution") == "client"
    environment = item.get("environment")
    return not (isinstance(environment, dict) and str(environment.get("type", "")).startswith("container"))
