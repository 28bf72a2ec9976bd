"""The server: gRPC in, adapters out."""
