"""Adapters: each turns one provider's wire into the contract's events, and a ChatRequest into its body."""
