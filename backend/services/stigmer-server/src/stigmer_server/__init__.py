"""The server: the HTTP API and the log of every execution."""
