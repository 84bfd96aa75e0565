"""The journal: every step of an execution is written down once, and then looked up.

`kinds` is the table of what steps there are, `steps` what all of them share; `model_steps`, `tool_steps`,
`waits` and `unexecuted` have rules of their own. `durability` hangs that into pydantic-ai, `writer` appends
to the log in order, `recorded` is what the log holds, `scopes` tells the agents of an execution apart, and
`fingerprints` whether the same is asked; `bodies` and `conversation` turn the log's words into messages.
"""
