"""Chat Completions.

* ``request.build_chat(call, dialect) -> WireRequest``
* ``stream.ChatTranslation(dialect, call, headers)``, a Translation; ``headers`` are those of the answer
"""
