"""What holds for the tests of all packages."""

from hypothesis import settings

# Hypothesis fails an example that takes over 200 ms, which says how busy the machine is and nothing of the
# code. With CI set it leaves that out by itself.
settings.register_profile("any-machine", parent=settings(), deadline=None)
settings.load_profile("any-machine")
