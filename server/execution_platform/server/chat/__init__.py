"""One chat, from admission to its end."""
