"""How Stigmer is released: from a version to a tag, and from a tag to images and packages.

The workflows call `python -m stigmer_release`, and nothing else of their own.
"""
