"""The agent runner: a Temporal worker that executes agents and writes down every step."""
