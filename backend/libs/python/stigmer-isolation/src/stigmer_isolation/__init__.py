"""Runs commands that nobody trusts, and holds them in. Needs the standard library; knows nothing of agents.

    launcher            starts a command and waits for its end, through a `zygote`
    self_test           tries how well that holds on this machine
    command_policy      what commands may read and execute here; `web_access`: what networks they may reach
    bubblewrap          hides what the policy does not grant, where namespaces can be had

Import from the modules: the package itself loads none of them, since the zygote is to load little.
The threat model, and each guarantee with its test: README.md beside the sources.
"""
