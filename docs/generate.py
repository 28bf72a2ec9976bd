"""Make the parts of the documentation that the code decides.

    generate.py            write them into the pages, and .env.example
    generate.py --check    write nothing; say what differs from the committed files, status 1 if anything does

A page takes a part between `<!-- generated: NAME -->` and `<!-- end -->`; one about a single provider between
`<!-- generated: NAME PROVIDER -->` and `<!-- end -->`.
"""

import argparse
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import annotated_types
import grpc
import provider_parts
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from provider_parts import ROWS, needs, specs
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from tables import ROOT, Row, code, table

from execution_platform.adapters.decisions import (
    Decision,
    ErrorKind,
    decision_for,
    decision_of,
    kind_of_finish,
)
from execution_platform.adapters.decisions import kind_of as kind_of_failure
from execution_platform.adapters.errors import AdapterError
from execution_platform.client.errors import error_from_rpc
from execution_platform.server.config.personas import (
    CapabilityName,
    LimitSettings,
    PersonaSettings,
    PlatformConfiguration,
    Seconds,
)
from execution_platform.server.config.prices import PriceSettings, PriceTier, SpecialPrices, TokenPrices
from execution_platform.server.config.settings import Settings
from execution_platform.server.config.spelling import CAPABILITIES
from execution_platform.server.errors import InternalError
from execution_platform.server.metrics import INSTRUMENTS
from execution_platform.server.status import failure_of
from execution_platform.v1 import chat_pb2, error_pb2

PART = re.compile(r"(?<=^<!-- generated: )(([a-z-]+)(?: (\w+))? -->\n).*?(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)

# --- settings ---------------------------------------------------------------------------------------------------------


def default_of(field: FieldInfo) -> str:
    """Return a setting's default as it is written in a variable."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value or "")


def bounds_of(field: FieldInfo) -> str:
    """Return the bounds of a setting that is a number."""
    words: dict[type, Callable[[Any], str]] = {
        annotated_types.Ge: lambda bound: f"from {bound.ge:g}",
        annotated_types.Gt: lambda bound: f"above {bound.gt:g}",
        annotated_types.Le: lambda bound: f"to {int(bound.le)}",
    }
    return " ".join(words[type(bound)](bound) for bound in field.metadata if type(bound) in words)


def settings() -> str:
    """Return the table of the server's settings."""
    rows = (
        [code(f"EP_{name.upper()}"), code(default_of(field)), bounds_of(field), field.description or ""]
        for name, field in Settings.model_fields.items()
    )
    return table(["variable", "default", "range", "meaning"], rows)


# --- errors -----------------------------------------------------------------------------------------------------------


def error_classes(base: type[AdapterError] = AdapterError) -> Iterator[type[AdapterError]]:
    """Yield every error of adapters and server."""
    yield base
    for derived in base.__subclasses__():
        yield from error_classes(derived)


def raised_by_client(detail: error_pb2.ErrorDetail) -> str:
    """Return the class that the Python client raises for an error."""
    failure = failure_of(detail)

    class Failed(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return failure.code

        def details(self) -> str:
            return failure.message

        def initial_metadata(self) -> tuple[()]:
            return ()

        def trailing_metadata(self) -> Any:
            return failure.trailing_metadata

    return type(error_from_rpc(Failed())).__name__


def details_of(detail: error_pb2.ErrorDetail) -> list[type[Message]]:
    """Return the kinds of details that an error's status carries."""
    trailing = dict(failure_of(detail, "id").trailing_metadata)["grpc-status-details-bin"]
    assert isinstance(trailing, bytes)
    names = [packed.TypeName().rpartition(".")[2] for packed in status_pb2.Status.FromString(trailing).details]
    return [getattr(error_details_pb2, name) for name in names]


def error_rows() -> Iterator[Row]:
    """Yield a row for each reason."""
    assert issubclass(InternalError, AdapterError)  # with it the server's errors are in the tree as well
    retryable = {each.reason for each in error_classes() if each.retryable_by_default}
    always = (error_details_pb2.ErrorInfo, error_details_pb2.RequestInfo)
    for name, reason in error_pb2.ErrorReason.items():
        if reason == error_pb2.ERROR_REASON_UNSPECIFIED:
            continue
        detail = error_pb2.ErrorDetail(reason=reason, retryable=reason in retryable)
        more = [kind.__name__ for kind in details_of(detail) if kind not in always]
        yield [
            code(name.removeprefix("ERROR_REASON_")),
            failure_of(detail).code.name,
            ", ".join(more),
            "yes" if reason in retryable else "",
            code(raised_by_client(detail)),
        ]


def errors() -> str:
    """Return the table of errors."""
    return table(["reason", "status", "further details", "retryable", "Python client raises"], error_rows())


def following(reason: error_pb2.ErrorReason.ValueType) -> tuple[str, Decision]:
    """Return the kind of a failure, and what follows from it."""
    return kind_of_failure(reason).value, decision_of(reason)


def kinds() -> str:
    """Return the table of what follows from failures: a row for those of a kind that are treated alike."""
    rows: dict[tuple[str, Decision], list[str]] = {(kind.value, decision_for(kind)): [] for kind in ErrorKind}
    for name, reason in error_pb2.ErrorReason.items():
        if reason != error_pb2.ERROR_REASON_UNSPECIFIED:
            rows.setdefault(following(reason), []).append(code(name.removeprefix("ERROR_REASON_")))
    order = list(ErrorKind)
    ends = [
        code(name.removeprefix("FINISH_REASON_")) for name, end in chat_pb2.FinishReason.items() if kind_of_finish(end)
    ]
    rows[ErrorKind.CONTENT_BLOCKED.value, decision_for(ErrorKind.CONTENT_BLOCKED)] = [
        f"ends of answers: {', '.join(ends)}"
    ]
    made = (
        [code(kind), ", ".join(reasons), *("yes" if each else "" for each in decision)]
        for (kind, decided), reasons in sorted(rows.items(), key=lambda row: order.index(ErrorKind(row[0][0])))
        if reasons
        for decision in [(decided.retry, decided.fall_back, decided.opens_circuit)]
    )
    return table(["kind", "reasons", "the same again", "the next", "says that it is down"], made)


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """Return the table of the metrics, by Prometheus's names."""
    rows = (
        [code(each.prometheus_name), each.kind.value, ", ".join(map(code, each.labels)), each.description]
        for each in INSTRUMENTS
    )
    return table(["metric", "type", "labels", "meaning"], rows)


# --- personas ---------------------------------------------------------------------------------------------------------


def kind_of(annotation: Any) -> str:
    """Return what a key's value is, in a word or two."""
    arguments = [each for each in typing.get_args(annotation) if each is not type(None)]
    if annotation in {Seconds, Seconds | None}:
        return "time"
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType, typing.Annotated}:
        return kind_of(arguments[0])
    if origin is typing.Literal:
        return " or ".join(code(str(each)) for each in arguments if each != "")
    if origin in {tuple, frozenset}:
        return "list"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum) and annotation is not CapabilityName:
        return " or ".join(code(each) for each in annotation)
    words = {str: "text", SecretStr: "text", bool: "`true` or `false`", int: "whole number", dict: "mapping"}
    return words.get(origin or annotation, "number")


def model_in(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a key's value is made of, and whether it is one by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return model_in(arguments[1])[0], True
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return model_in(arguments[0])
    return None, False


def shown_default(field: FieldInfo) -> str:
    """Return the default of a key as it is written in the file."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, float):
        return code(f"{value:g}")
    return code(str(value)) if isinstance(value, int | StrEnum) else ""


def key_rows(model: type[BaseModel], prefix: str, apart: tuple[type[BaseModel], ...]) -> Iterator[Row]:
    """Yield a row for each key of a model, and for those within; models that are told apart are only named."""
    for name, field in model.model_fields.items():
        inner, by_name = model_in(field.annotation)
        path = f"{prefix}{name}" + (".NAME" if by_name and inner is not None else "")
        if inner is None or inner in apart:
            kind = "mapping" if inner is not None else "time" if is_time(field) else kind_of(field.annotation)
            yield [code(path), kind, shown_default(field), field.description or ""]
        else:
            yield from key_rows(inner, f"{path}.", apart)


def is_time(field: FieldInfo) -> bool:
    """Tell whether a key's value is a time, by the notes of its type."""
    return typing.get_args(Seconds)[1] in field.metadata


def persona_keys() -> str:
    """Return the table of a persona's keys."""
    return table(["key", "value", "default", "meaning"], key_rows(PersonaSettings, "", ()))


def file_keys() -> str:
    """Return the table of the file's keys but those of its personas."""
    rows = key_rows(PlatformConfiguration, "", (PersonaSettings, LimitSettings))
    return table(["key", "value", "default", "meaning"], rows)


def price_keys() -> str:
    """Return the table of the keys of an entry of `prices`; tiers and regions have those for tokens, too."""
    own = [name for name in PriceSettings.model_fields if name not in TokenPrices.model_fields]
    rows = [*price_rows(PriceSettings, own, "")]
    rows += price_rows(PriceSettings, list(TokenPrices.model_fields), "")
    rows += price_rows(PriceTier, ["above"], "tiers[].")
    for name in ("service_tiers.NAME.", "regions.NAME."):
        rows += price_rows(SpecialPrices, ["factor", "tiers"], name)
    return table(["key", "value", "meaning"], iter(rows))


def price_rows(model: type[BaseModel], names: list[str], prefix: str) -> Iterator[Row]:
    """Yield a row for some keys of prices."""
    for name in names:
        field = model.model_fields[name]
        kind = "time" if name in {"since", "until"} else kind_of(field.annotation)
        yield [code(f"{prefix}{field.alias or name}"), kind, field.description or ""]


def capability_words() -> str:
    """Return the table of capabilities and of the words that are read for them."""
    words = {
        name: [word for word, meant in CAPABILITIES.items() if meant is name and word != name.value]
        for name in CapabilityName
    }
    rows = ([code(name.value), ", ".join(map(code, sorted(others)))] for name, others in words.items())
    return table(["capability", "also written"], rows)


# --- lists of pages ---------------------------------------------------------------------------------------------------


def decisions() -> str:
    """Return the list of decisions, the newest day first."""
    folder = ROOT / "docs/decisions"
    days: dict[str, list[str]] = {}
    for page in sorted(folder.glob("20*.md")):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        days.setdefault(page.name[:10], []).append(f"- [{title}]({page.name})")
    return "".join(f"\n{day}\n\n" + "\n".join(lines) + "\n" for day, lines in sorted(days.items(), reverse=True)) + "\n"


# --- .env.example -----------------------------------------------------------------------------------------------------

#: Settings that most operators look at; the reference has all.
COMMON = (
    "listen", "workers", "config_path", "persona_provider_map_path", "default_model", "model_aliases",
    "default_deadline_seconds", "drain_seconds",
    "max_concurrent_chats", "metrics_listen", "tls_cert_file", "tls_key_file", "log_level", "log_format",
)  # fmt: skip


def env_example() -> str:
    """Return .env.example: the common variables, each commented out."""
    lines = [
        "# Copy to .env and uncomment what you need. `ep serve` reads it from the folder that it is started in;",
        "# variables of the environment win over it. All settings: docs/reference/configuration.md.",
        "# Generated by `make docs`.",
        "",
        "# --- providers: one key is enough; without any the small local model answers",
    ]
    for name, listed in specs().items():
        for spec in listed:
            wanted = re.findall(r"EP_\w+", needs(spec))
            if name == ROWS and not wanted:
                wanted = [f"EP_{spec.name.upper()}_BASE_URL"]
            lines += [f"#{each}={spec.default_base_url if each.endswith('BASE_URL') else ''}" for each in wanted]
    lines += ["", "# --- server"]
    for name in COMMON:
        field = Settings.model_fields[name]
        lines += [f"# {field.description}", f"#EP_{name.upper()}={default_of(field)}"]
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    **provider_parts.PARTS,
    "settings": settings,
    "errors": errors,
    "kinds": kinds,
    "metrics": metrics,
    "persona-keys": persona_keys,
    "file-keys": file_keys,
    "price-keys": price_keys,
    "capability-words": capability_words,
    "decisions": decisions,
}


def pages() -> list[Path]:
    """Return the pages that people write, the README first."""
    written = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "contract.md"]
    return [ROOT / "README.md", ROOT / "clients/python/README.md", ROOT / "CONTRIBUTING.md", *written]


def part(found: re.Match[str]) -> str:
    """Return a part as it should be. Raises KeyError where nobody makes it, or there is no such provider."""
    begin, name, provider = found.groups()
    if provider is None:
        return f"{begin}{PARTS[name]()}"
    every = {spec.name: spec for listed in specs().values() for spec in listed}
    return f"{begin}{provider_parts.PARTS_OF_ONE[name](every[provider])}"


def made() -> dict[Path, str]:
    """Return every file with a generated part, as it should be.

    Raises:
        KeyError: a page asks for a part that is not made here.
    """
    files = {ROOT / ".env.example": env_example()}
    for page in pages():
        text = page.read_text()
        if PART.search(text):
            files[page] = PART.sub(part, text)
    return files


def forget_aws() -> None:
    """Hide what this machine has of AWS: a region of its own would show in what a provider needs."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.devnull


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Make the generated parts of the documentation.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args()
    forget_aws()
    stale = [path for path, text in made().items() if not path.exists() or path.read_text() != text]
    if options.check and stale:
        print(
            *(f"stale: {path.relative_to(ROOT)}" for path in stale), "run `make docs` and commit the result", sep="\n"
        )
        return 1
    for path in stale:
        path.write_text(made()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
