"""Responses.

* ``request.build_responses(call, dialect) -> WireRequest``
* ``stream.ResponsesTranslation(dialect, call, headers)``, a Translation; ``headers`` are those of the answer
"""
