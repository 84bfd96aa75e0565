"""What Stigmer knows of its own container: image, environment, mounts, limits, and who looks after it.

How containers are made is `stigmer_cli.containers`'s concern; when, the stack's.
"""
