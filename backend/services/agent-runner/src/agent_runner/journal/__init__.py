"""The journal: every model answer and tool result is a step that is written down once and then read.

`steps` decides whether a step is done or looked up, `durability` hangs that into pydantic-ai, `writer`
appends to the server's log in order, `recorded` is what the log already holds, `conversation` turns
earlier executions of a session into messages.
"""
