"""CostService: one file for each part of it."""
