"""What two Stigmer programs must agree on.

Manifests, execution phases, events, error codes, HTTP models and Temporal names. No I/O but the
reading of a manifest's text, and no knowledge of how any program does its work.
"""
