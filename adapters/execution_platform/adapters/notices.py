"""What a request builder tells the caller: options that were dropped, adjusted or filled in."""

from __future__ import annotations

from execution_platform.adapters.errors import UnsupportedOptionError
from execution_platform.v1 import chat_pb2

__all__ = ["Notices"]


class Notices:
    """Collects the notices of one attempt, and refuses instead where the request wants that."""

    def __init__(self, request: chat_pb2.ChatRequest) -> None:
        self._reject = request.unsupported_options == chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT
        self.items: list[chat_pb2.Notice] = []

    def param_dropped(self, field: str, why: str) -> None:
        """Tell that an option is left out.

        Raises:
            UnsupportedOptionError: the request wants unsupported options refused.
        """
        if self._reject:
            raise UnsupportedOptionError(f"{field}: {why}", field=field)
        self.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, field, why)

    def param_adjusted(self, field: str, why: str) -> None:
        """Tell that an option is changed to the nearest that the model can honour. Raises like param_dropped."""
        if self._reject:
            raise UnsupportedOptionError(f"{field}: {why}", field=field)
        self.add(chat_pb2.NOTICE_CODE_PARAM_ADJUSTED, field, why)

    def param_defaulted(self, field: str, why: str) -> None:
        """Tell that a value which the provider requires is filled in. Never refused."""
        self.add(chat_pb2.NOTICE_CODE_PARAM_DEFAULTED, field, why)

    def state_dropped(self, field: str, why: str) -> None:
        """Tell that opaque state of another family is left out. Never refused: the words still go through."""
        self.add(chat_pb2.NOTICE_CODE_STATE_DROPPED, field, why)

    def block_dropped(self, field: str, why: str) -> None:
        """Tell that a block is left out or turned into text. Raises like param_dropped."""
        if self._reject:
            raise UnsupportedOptionError(f"{field}: {why}", field=field)
        self.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, field, why)

    def add(self, code: chat_pb2.NoticeCode.ValueType, field: str, message: str) -> None:
        """Tell something else."""
        self.items.append(chat_pb2.Notice(code=code, field=field, message=message))

    def events(self) -> list[chat_pb2.ChatEvent]:
        """Return the notices as events, in order."""
        return [chat_pb2.ChatEvent(notice=notice) for notice in self.items]
