"""How chats are written down: many in one transaction, durable before their callers hear of the end."""
