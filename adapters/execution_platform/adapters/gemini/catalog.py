"""The list of models as the contract's models."""

from __future__ import annotations

from execution_platform.adapters.fields import Fields, clean_text, elements_of, object_json, value_of
from execution_platform.adapters.gemini.fields import integer, members
from execution_platform.v1 import catalog_pb2

__all__ = ["read_models"]

_GENERATES = frozenset({"generateContent", "streamGenerateContent"})


def read_models(body: bytes) -> tuple[list[catalog_pb2.Model], str]:
    """Return the models of one page that generate content, and the token of the next page.

    Raises:
        ProtocolError: the page is not what the API describes.
    """
    page = members(body)
    listed = [members(raw) for raw in elements_of(page["models"])] if "models" in page else []
    return [_model(fields) for fields in listed if _generates(fields)], clean_text(page.get("nextPageToken"))


def _generates(fields: Fields) -> bool:
    methods = value_of(fields.get("supportedGenerationMethods"))
    return not isinstance(methods, list) or not _GENERATES.isdisjoint(map(str, methods))


def _model(fields: Fields) -> catalog_pb2.Model:
    model = catalog_pb2.Model(
        provider="gemini",
        model=clean_text(fields.get("name")).removeprefix("models/"),
        display_name=clean_text(fields.get("displayName")),
        provider_metadata_json=object_json(fields),
    )
    window = integer(value_of(fields.get("inputTokenLimit")))
    if window is not None:
        model.context_window = window
    most = integer(value_of(fields.get("outputTokenLimit")))
    if most is not None:
        model.max_output_tokens = most
    return model
