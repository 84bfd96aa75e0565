"""Servers of tools by the Model Context Protocol, as one leg meets them.

    tool_list       what a server offers, as it is kept and compared; `tool_names` and `shown_schemas`: how a
                    model is shown it
    argument_check  whether arguments fit a tool's schema
    servers         the servers of one leg: started when a tool of theirs is called, ended with it
    connection      one conversation with a server; `stdio` carries it, `wire` mends what comes
    contents        what a call led to, for the model

The SDK takes half a second to import: only `connection`, `stdio` and `contents` do, and are themselves
imported when a server is first to be talked with.
"""
