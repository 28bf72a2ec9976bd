"""The formats that OpenAI defined, shared by every provider that speaks them: Chat Completions and Responses."""
