"""All of Stigmer as one distribution: what it needs and its three commands stand in its pyproject.toml."""
