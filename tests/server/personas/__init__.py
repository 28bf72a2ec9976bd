"""The configuration of personas and routes: files, what is wrong with them, and their reload."""
