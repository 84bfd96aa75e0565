"""The chaos run: two servers, three runners, PostgreSQL and Temporal under faults that a seed decides.

`plan` decides, `cluster` and `links` are what breaks, `faults` breaks it, `workload` keeps it busy, `watch`
looks on, `evidence` gathers, `invariants` judges, `report` tells. `make chaos`, or `python -m chaos --help`.
"""
