"""What was written, for those who ask: records, sums, files."""
