"""What the judge is told of the product. Read by the judge's own Python, never imported by ours."""

from conformance_harness.scenario import Scenario

scenario = Scenario(
    name="refunds",
    entrypoint="refunds_episode:run",
    scenario_id="stigmer-refunds",
    source=".",
    commit="working-tree",
    capabilities=("deliveries", "races", "pools", "deadlines", "approvals", "crash-hook"),
)
