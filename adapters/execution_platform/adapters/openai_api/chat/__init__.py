"""Chat Completions.

* ``request.build_chat(call, dialect) -> WireRequest``
* ``stream.ChatTranslation(dialect, call, headers=..., notices=...)``, a Translation. ``headers`` are those of the
  answer, ``notices`` those of the WireRequest: they follow ``started``.
"""
