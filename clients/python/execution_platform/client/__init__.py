"""The client for humans: synchronous and asynchronous, typed errors, events folded into messages."""

from execution_platform.client.aio import AsyncChatStream, AsyncExecutionPlatformClient
from execution_platform.client.aio_costs import AsyncCosts
from execution_platform.client.answer import Answer
from execution_platform.client.base import HealthStatus, ModelList
from execution_platform.client.content import assistant, file, media, system, text, tool_result, user
from execution_platform.client.costs import Costs
from execution_platform.client.errors import (
    BudgetExceededError,
    CallCancelledError,
    ConflictError,
    DeadlineExceededError,
    ExecutionPlatformError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolViolationError,
    RateLimitedError,
    RequestInProgressError,
    StreamBrokenError,
    TransportError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from execution_platform.client.fold import Fold
from execution_platform.client.options import DEFAULT_TARGET, TargetError, Tls, client_version
from execution_platform.client.reader import text_in, thinking_in
from execution_platform.client.requests import ChatFields, Prompt
from execution_platform.client.status_details import Violation
from execution_platform.client.sync import ChatStream, ExecutionPlatformClient
from execution_platform.client.tools import PythonTool, run_tool_calls, run_tool_calls_async, tool

__all__ = [
    "DEFAULT_TARGET",
    "Answer",
    "AsyncChatStream",
    "AsyncCosts",
    "AsyncExecutionPlatformClient",
    "BudgetExceededError",
    "CallCancelledError",
    "ChatFields",
    "ChatStream",
    "ConflictError",
    "Costs",
    "DeadlineExceededError",
    "ExecutionPlatformClient",
    "ExecutionPlatformError",
    "FailedPreconditionError",
    "Fold",
    "HealthStatus",
    "InternalError",
    "InvalidRequestError",
    "ModelList",
    "NotFoundError",
    "PermissionDeniedError",
    "Prompt",
    "ProtocolViolationError",
    "PythonTool",
    "RateLimitedError",
    "RequestInProgressError",
    "StreamBrokenError",
    "TargetError",
    "Tls",
    "TransportError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "Violation",
    "assistant",
    "client_version",
    "file",
    "media",
    "run_tool_calls",
    "run_tool_calls_async",
    "system",
    "text",
    "text_in",
    "thinking_in",
    "tool",
    "tool_result",
    "user",
]
