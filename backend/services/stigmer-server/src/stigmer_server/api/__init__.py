"""The HTTP API under `/v1`: reads requests, calls the domain, writes answers. Decides nothing itself."""
