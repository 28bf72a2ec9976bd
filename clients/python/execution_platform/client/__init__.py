"""The client for humans: synchronous and asynchronous, typed errors, events folded into messages."""
