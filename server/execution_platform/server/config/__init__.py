"""Settings: read once at start from EP_* variables and .env, validated, frozen."""
