"""The `stigmer` command: runs agents, manages the local stack and the runner's container."""
