"""What Stigmer knows of its runner: whether it is a container, of which image, and what it is given.

From the outside to the inside: `wish` (what flags said), `choice` (a container or a process), `resolution`
and what it uses (which image), `plan` and `placement` (what a container is given, the standing one and that
of one directory), `attendant` (stands for a container as a process). How containers are made is
`stigmer_cli.containers`'s concern; when, the stack's.
"""
