"""The list of models as the contract's models."""

from __future__ import annotations

from execution_platform.adapters.gemini.fields import Fields, integer, items, json_of, members, text, value
from execution_platform.v1 import catalog_pb2

__all__ = ["read_models"]

_GENERATES = frozenset({"generateContent", "streamGenerateContent"})


def read_models(body: bytes) -> tuple[list[catalog_pb2.Model], str]:
    """Return the models of one page that generate content, and the token of the next page.

    Raises:
        ProtocolError: the page is not what the API describes.
    """
    page = members(body)
    listed = [members(raw) for raw in items(page["models"])] if "models" in page else []
    return [_model(fields) for fields in listed if _generates(fields)], text(page.get("nextPageToken"))


def _generates(fields: Fields) -> bool:
    methods = value(fields.get("supportedGenerationMethods"))
    return not isinstance(methods, list) or not _GENERATES.isdisjoint(map(str, methods))


def _model(fields: Fields) -> catalog_pb2.Model:
    model = catalog_pb2.Model(
        provider="gemini",
        model=text(fields.get("name")).removeprefix("models/"),
        display_name=text(fields.get("displayName")),
        provider_metadata_json=json_of(fields),
    )
    window = integer(value(fields.get("inputTokenLimit")))
    if window is not None:
        model.context_window = window
    most = integer(value(fields.get("outputTokenLimit")))
    if most is not None:
        model.max_output_tokens = most
    return model
