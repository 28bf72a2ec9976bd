"""A protoc plugin that writes the contract's reference page, contract.md, from the protos' comments.

Reads a CodeGeneratorRequest on stdin and writes a CodeGeneratorResponse on stdout. Order is that of the
sources, files with a service first. The comment paths are those of descriptor.proto: 4 a message, 5 an
enum, 6 a service; within a message 2 a field, 3 a nested message, 4 a nested enum, 8 a oneof; within an
enum 2 a value; within a service 2 a method.
"""

import sys
from collections.abc import Iterator, Sequence

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

Path = tuple[int, ...]

HEAD = """\
# Contract

Every service, message and enum of `execution_platform.v1`, made from the comments of
[`protos/execution_platform/v1`](../../protos/execution_platform/v1) by `make protos`.
Streams carry `stream` before their type; a field marked `optional` tells absent from zero.
"""


class Comments:
    """The leading comments of one file, by the path of what they speak of."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}

    def paragraphs(self, path: Path) -> str:
        """Return the comment with its line breaks, without the space after the slashes."""
        lines = self._by_path.get(path, "").splitlines()
        return "\n".join(line.removeprefix(" ").rstrip() for line in lines).strip()

    def cell(self, path: Path) -> str:
        """Return the comment as one line that can stand in a table."""
        return " ".join(self.paragraphs(path).split()).replace("|", "\\|")


def anchor(name: str) -> str:
    """Return the anchor that Markdown renderers give to the heading of a type."""
    return name.lower().replace(".", "")


def link(type_name: str, package: str) -> str:
    """Return a type's name, as a link where this page has its heading."""
    name = type_name.removeprefix(".")
    if not name.startswith(package + "."):
        return f"`{name}`"
    short = name.removeprefix(package + ".")
    return f"[{short}](#{anchor(short)})"


def scalar(field: FieldDescriptorProto) -> str:
    """Return the name of a scalar type as the proto language spells it."""
    return f"`{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"


def type_of(field: FieldDescriptorProto, owner: DescriptorProto, package: str) -> str:
    """Return a field's type with its label, as Markdown."""
    entry = next(
        (
            nested
            for nested in owner.nested_type
            if nested.options.map_entry and field.type_name.endswith(f".{owner.name}.{nested.name}")
        ),
        None,
    )
    if entry is not None:
        key, value = (type_of(part, entry, package) for part in entry.field)
        return f"map of {key} to {value}"
    kind = link(field.type_name, package) if field.type_name else scalar(field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table and an empty one."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join([' --- '] * len(head))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def method_lines(method: MethodDescriptorProto, path: Path, comments: Comments, package: str) -> Iterator[str]:
    """Yield the lines of one RPC."""
    sends = ("stream " if method.client_streaming else "") + link(method.input_type, package)
    gets = ("stream " if method.server_streaming else "") + link(method.output_type, package)
    yield f"**{method.name}**({sends}) returns ({gets})"
    yield ""
    yield comments.paragraphs(path)
    yield ""


def service_lines(service: ServiceDescriptorProto, path: Path, comments: Comments, package: str) -> Iterator[str]:
    """Yield the lines of one service."""
    yield from (f"### {service.name}", "", comments.paragraphs(path), "")
    for number, method in enumerate(service.method):
        yield from method_lines(method, (*path, 2, number), comments, package)


def enum_lines(enum: EnumDescriptorProto, name: str, path: Path, comments: Comments) -> Iterator[str]:
    """Yield the lines of one enum."""
    yield from (f"### {name}", "", comments.paragraphs(path), "")
    rows = [
        (str(value.number), f"`{value.name}`", comments.cell((*path, 2, number)))
        for number, value in enumerate(enum.value)
    ]
    yield from table(("Number", "Value", "Meaning"), rows)


def field_row(message: DescriptorProto, number: int, path: Path, comments: Comments, package: str) -> tuple[str, ...]:
    """Return the table row of one field; the members of a oneof say of which."""
    field = message.field[number]
    text = comments.cell((*path, 2, number))
    if field.HasField("oneof_index") and not field.proto3_optional:
        text = f"*One of `{message.oneof_decl[field.oneof_index].name}`.* {text}"
    return str(field.number), f"`{field.name}`", type_of(field, message, package), text


def message_lines(message: DescriptorProto, name: str, path: Path, comments: Comments, package: str) -> Iterator[str]:
    """Yield the lines of one message and of what is declared inside it."""
    yield from (f"### {name}", "", comments.paragraphs(path), "")
    for number, oneof in enumerate(message.oneof_decl):
        if text := comments.cell((*path, 8, number)):
            yield from (f"One of `{oneof.name}`: {text}", "")
    rows = [field_row(message, number, path, comments, package) for number in range(len(message.field))]
    if rows:
        yield from table(("Number", "Field", "Type", "Meaning"), rows)
    for number, enum in enumerate(message.enum_type):
        yield from enum_lines(enum, f"{name}.{enum.name}", (*path, 4, number), comments)
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            inner = (*path, 3, number)
            yield from message_lines(nested, f"{name}.{nested.name}", inner, comments, package)


def file_lines(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the lines of one proto file: its services, messages and enums."""
    comments = Comments(file)
    yield f"## {file.name.rsplit('/', 1)[-1]}"
    yield ""
    if text := comments.paragraphs((12,)):  # what stands above `syntax` speaks of the file
        yield from (text, "")
    for number, service in enumerate(file.service):
        yield from service_lines(service, (6, number), comments, file.package)
    for number, message in enumerate(file.message_type):
        yield from message_lines(message, message.name, (4, number), comments, file.package)
    for number, enum in enumerate(file.enum_type):
        yield from enum_lines(enum, enum.name, (5, number), comments)


def page(files: list[FileDescriptorProto]) -> str:
    """Return the whole page."""
    lines = [HEAD]
    for file in sorted(files, key=lambda file: (not file.service, file.name)):
        lines.extend(file_lines(file))
    return "\n".join(lines).rstrip() + "\n"


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Return the page of all requested files."""
    wanted = set(request.file_to_generate)
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    text = page([file for file in request.proto_file if file.name in wanted])
    response.file.add(name="contract.md", content=text)
    return response


if __name__ == "__main__":
    asked = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(asked).SerializeToString())
