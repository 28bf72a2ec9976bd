"""The gRPC services, one file each, thin: wire in, domain call, wire out."""
