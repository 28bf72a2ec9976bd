"""Notices tell what became of an option, or refuse it where the request wants that."""

from collections.abc import Callable

import pytest

from execution_platform.adapters.errors import UnsupportedOptionError
from execution_platform.adapters.notices import Notices
from execution_platform.v1 import chat_pb2

Tell = Callable[[Notices, str, str], None]
REFUSED: list[tuple[Tell, chat_pb2.NoticeCode.ValueType]] = [
    (Notices.param_dropped, chat_pb2.NOTICE_CODE_PARAM_DROPPED),
    (Notices.param_adjusted, chat_pb2.NOTICE_CODE_PARAM_ADJUSTED),
    (Notices.block_dropped, chat_pb2.NOTICE_CODE_BLOCK_DROPPED),
]
NEVER_REFUSED: list[tuple[Tell, chat_pb2.NoticeCode.ValueType]] = [
    (Notices.param_defaulted, chat_pb2.NOTICE_CODE_PARAM_DEFAULTED),
    (Notices.state_dropped, chat_pb2.NOTICE_CODE_STATE_DROPPED),
]
REJECT = chat_pb2.ChatRequest(unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT)


@pytest.mark.parametrize(("tell", "code"), REFUSED + NEVER_REFUSED)
@pytest.mark.parametrize(
    "policy", [chat_pb2.UNSUPPORTED_OPTION_POLICY_UNSPECIFIED, chat_pb2.UNSUPPORTED_OPTION_POLICY_DROP]
)
def test_a_change_is_told(
    tell: Tell, code: chat_pb2.NoticeCode.ValueType, policy: chat_pb2.UnsupportedOptionPolicy.ValueType
) -> None:
    """By default and with DROP every change becomes a notice with code, field and words."""
    notices = Notices(chat_pb2.ChatRequest(unsupported_options=policy))
    tell(notices, "sampling.top_k", "no such thing")
    (event,) = notices.events()
    assert event.notice == chat_pb2.Notice(code=code, field="sampling.top_k", message="no such thing")
    assert notices.items == [event.notice]


@pytest.mark.parametrize(("tell", "code"), REFUSED)
def test_a_change_is_refused_where_that_is_wanted(tell: Tell, code: chat_pb2.NoticeCode.ValueType) -> None:
    """With REJECT an option that cannot be honoured is an error that names it, and no notice."""
    notices = Notices(REJECT)
    with pytest.raises(UnsupportedOptionError, match=r"sampling.top_k: no such thing") as caught:
        tell(notices, "sampling.top_k", "no such thing")
    assert caught.value.field == "sampling.top_k"
    assert code not in [notice.code for notice in notices.items]


@pytest.mark.parametrize(("tell", "code"), NEVER_REFUSED)
def test_what_loses_no_words_is_never_refused(tell: Tell, code: chat_pb2.NoticeCode.ValueType) -> None:
    """Filled-in values and dropped states are told with REJECT too."""
    notices = Notices(REJECT)
    tell(notices, "f", "w")
    assert [notice.code for notice in notices.items] == [code]
