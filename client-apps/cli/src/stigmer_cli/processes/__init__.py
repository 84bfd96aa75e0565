"""Processes and ports of this machine. Knows nothing of Stigmer, and imports little."""
