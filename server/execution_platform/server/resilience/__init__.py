"""What keeps a chat going when a provider does not: adapters that wrap adapters, stacked in :mod:`.route`."""
