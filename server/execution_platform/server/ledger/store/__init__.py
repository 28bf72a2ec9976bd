"""Where accounts are kept: SQLite or PostgreSQL, its tables, its connections, its migrations."""
