"""The conformance kit: checks what :mod:`~execution_platform.adapters.spi` promises, for any adapter.

Plain functions that raise :class:`ConformanceError`, an AssertionError; no test framework is needed::

    def test_recordings():
        check_translation(lambda: MyTranslation(...), stream=recorded_stream, whole=recorded_body)

    async def test_adapter():
        await check_adapter(make_adapter, Call(request, "model"), is_free=lambda: server.connections == 0)

* :func:`check_stream` takes the lists of events of one answer, however they came about.
* :func:`check_translation` takes bytes of a provider: whole, cut anywhere, ended early, damaged.
* :func:`check_adapter` runs an adapter: to the end, unary, closed and cancelled in the middle, several at once.
* :func:`same_answer` compares what two answers say.
"""

from execution_platform.adapters.testing.answers import Answer, ConformanceError, check_stream, same_answer
from execution_platform.adapters.testing.life import check_adapter
from execution_platform.adapters.testing.translation import check_translation

__all__ = [
    "Answer",
    "ConformanceError",
    "check_adapter",
    "check_stream",
    "check_translation",
    "same_answer",
]
