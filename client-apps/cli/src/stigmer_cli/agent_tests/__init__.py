"""Tests of agents: files `*.test.yaml`, what each expects of an execution, and how it went.

`test_file` is the format, `checks` decides, `junit` and `report` say how it went. Who runs the execution is
`commands.testing`.
"""
