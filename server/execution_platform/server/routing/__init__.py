"""Routing: which provider and model serve a request, and how providers have answered lately."""
