"""Generated from protos/execution_platform/v1 by `make protos`; never edited by hand."""
