"""What two Stigmer programs must agree on.

Manifests, execution phases, events, error codes, HTTP models, Temporal names, and which directories agents
may be given. No I/O but the reading of a manifest's text and the look at such a directory, and no knowledge
of how any program does its work.
"""
