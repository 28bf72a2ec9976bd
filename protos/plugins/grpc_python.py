"""A protoc plugin around grpcio-tools' built-in `grpc_python` generator, which buf cannot call by itself.

Reads a CodeGeneratorRequest on stdin and writes a CodeGeneratorResponse on stdout. Files without a
service get no module: it would only import grpc.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from grpc_tools import protoc


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Return the gRPC module of every requested file that declares a service."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    wanted = set(request.file_to_generate)
    sources = [file.name for file in request.proto_file if file.name in wanted and file.service]
    if not sources:
        return response
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image.binpb")
        image.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        status = protoc.main(["protoc", f"--descriptor_set_in={image}", f"--grpc_python_out={out}", *sources])
        if status:
            response.error = f"grpc_python ended with status {status}"
        for module in sorted(out.rglob("*.py")):
            response.file.add(name=module.relative_to(out).as_posix(), content=module.read_text())
    return response


if __name__ == "__main__":
    asked = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(asked).SerializeToString())
