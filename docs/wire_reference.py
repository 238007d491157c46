"""Makes the page reference/wire.md from the comments in protos/nextok/v1, when the site is built.

Knows descriptors with their source's comments. Does not know what the messages are for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT: Final = Path(__file__).parents[1]
_FILES: Final = ("nextok/v1/text_generation.proto", "nextok/v1/types.proto")
_PACKAGE: Final = ".nextok.v1."
_HEAD: Final = """# Reference of the wire

Every rpc, message and field of `nextok.v1`, from the comments in
`protos/nextok/v1`. [Talking to a server](../wire.md) tells what happens when.
"""
# Numbers that descriptor.proto gives its fields; comments are found by paths of them.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_NESTED, _FIELDS, _VALUES, _METHODS = 3, 2, 2, 2


def reference() -> str:
    """The page, as it should be."""
    parts = [_HEAD]
    for file in _descriptors():
        comments = {tuple(place.path): place for place in file.source_code_info.location}
        parts += _file(file, {path: _text(place) for path, place in comments.items()})
    return "\n".join(parts)


def _descriptors() -> list[FileDescriptorProto]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "set.binpb"
        options = ["--include_source_info", f"--descriptor_set_out={output}"]
        if protoc.main(["protoc", f"-I{ROOT / 'protos'}", *options, *_FILES]):
            raise SystemExit("the protos do not compile")
        found = FileDescriptorSet.FromString(output.read_bytes())
    return sorted(found.file, key=lambda file: _FILES.index(file.name))


_Comments = dict[tuple[int, ...], str]


def _text(place: object) -> str:
    lines = str(place.leading_comments).splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.removeprefix(" ") for line in lines).strip()


def _file(file: FileDescriptorProto, comments: _Comments) -> Iterator[str]:
    for number, service in enumerate(file.service):
        yield f"## {service.name}\n"
        yield comments[_SERVICES, number] + "\n"
        for index, method in enumerate(service.method):
            asks, gives = _type(method.input_type), _type(method.output_type)
            asks = f"stream of {asks}" if method.client_streaming else asks
            gives = f"stream of {gives}" if method.server_streaming else gives
            yield f"### {method.name}\n\n{asks} → {gives}\n"
            yield comments[_SERVICES, number, _METHODS, index] + "\n"
    yield f"## Messages of {Path(file.name).name}\n"
    for number, message in enumerate(file.message_type):
        yield from _message(message, message.name, (_MESSAGES, number), comments)
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, (_ENUMS, number), comments)


def _message(
    message: DescriptorProto, name: str, path: tuple[int, ...], comments: _Comments
) -> Iterator[str]:
    yield f"### {name}\n"
    yield comments[path] + "\n"
    if message.field:
        yield "| field | type | |\n|---|---|---|"
        for number, field in enumerate(message.field):
            text = " ".join(comments[(*path, _FIELDS, number)].split())
            yield f"| `{field.name}` = {field.number} | {_field_type(message, field)} | {text} |"
        yield ""
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            inner = f"{name}.{nested.name}"
            yield from _message(nested, inner, (*path, _NESTED, number), comments)


def _enum(enum: EnumDescriptorProto, path: tuple[int, ...], comments: _Comments) -> Iterator[str]:
    yield f"### {enum.name}\n"
    yield comments[path] + "\n"
    yield "| value | |\n|---|---|"
    for number, value in enumerate(enum.value):
        text = " ".join(comments[(*path, _VALUES, number)].split())
        yield f"| `{value.name}` = {value.number} | {text} |"
    yield ""


def _field_type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    name = _type(field.type_name) if field.type_name else _scalar(field)
    entry = next((n for n in message.nested_type if field.type_name.endswith(f".{n.name}")), None)
    if entry is not None and entry.options.map_entry:
        key, value = (_scalar(part) for part in entry.field)
        return f"map of {key} to {value}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return name


def _scalar(field: FieldDescriptorProto) -> str:
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _type(full_name: str) -> str:
    name = full_name.removeprefix(_PACKAGE)
    return f"[{name}](#{name.lower().replace('.', '')})"
