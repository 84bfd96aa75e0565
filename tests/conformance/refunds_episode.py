"""An episode for the judge: one execution of the product quotes once and refunds three times, over HTTP.

Run by the judge's own Python. What is written into its ledger is what happened: a request that came in over
the port, a call that a person did not approve, a leg that was granted or refused, a command that ran out of
time. A fault is marked as applied only where it took effect.
"""

import contextlib
import http.client
import http.server
import json
import pathlib
import select
import threading
import time
import urllib.parse

from conformance_sdk.adapters.manual import redeliveries
from conformance_sdk.contracts import Disposition, EffectClass
from conformance_sdk.fault_log import mark_fault_applied
from conformance_sdk.recorder import (
    DEADLINE_TARGET,
    LEASE_CLAIM_TARGET,
    POOL_ACQUIRE_TARGET,
    activity_scope,
)

STEPS = ("step_quote", "step_refund_1", "step_refund_2", "step_refund_3")
STALL_SECONDS = 20.0
"""How long a refund is late, at most: much longer than its command may take, and than the judge asks for."""


class Episode:
    """One delivery of the work, and what is seen of it."""

    def __init__(self, ctx):
        self.ctx = ctx
        self.stack = json.loads(_find(ctx.data_dir, "stack.json").read_text())
        self.faults = [fault.to_canonical() for fault in (ctx.schedule.faults if ctx.schedule else ())]
        self.kinds = {fault["kind"] for fault in self.faults}
        delayed = [fault["host_pattern"] for fault in self.faults if fault["kind"] == "delay_response"]
        self.is_model_slow = any("generativelanguage" in host for host in delayed)
        self.are_refunds_slow = any("stripe" in host for host in delayed)
        self.approvals = {}
        self.rival_attempt = None
        self.has_killed = False
        self.lock = threading.Lock()

    # --- the ledger -----------------------------------------------------------------------------

    def land(self, step, effect_class, disposition, *, target=None, approval=None):
        with (
            self.lock,
            activity_scope(
                "plan_refunds",
                step,
                activity_input=step,
                approval_ref=approval,
                effect_class=effect_class,
            ),
        ):
            self.ctx.recorder.record(
                target=target or f"shop/{step}",
                effect_class=effect_class,
                identity=f"{target or 'shop'}/{step}",
                payload_digest="sha256:" + "0" * 64,
                idempotency_key=None,
                disposition=disposition,
            )

    def claim(self, step, granted):
        disposition = Disposition.PERFORMED if granted else Disposition.REFUSED
        self.land(step, EffectClass.WRITE, disposition, target=LEASE_CLAIM_TARGET)

    # --- the product, over HTTP -------------------------------------------------------------------

    def call(self, method, path, body=None, key=None, seconds=60.0):
        address = urllib.parse.urlsplit(self.stack["server"])
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=seconds)
        headers = {"Authorization": f"Bearer {self.stack['token']}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status >= 400 and response.status != 409:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return response.status, (json.loads(text) if text else None)

    def events(self, execution):
        _, page = self.call("GET", f"/v1/executions/{execution}/events?limit=500")
        return [recorded["event"] for recorded in page["items"]]

    def control(self, what):
        address = urllib.parse.urlsplit(self.stack["control"])
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=120)
        connection.request("POST", f"/{what}")
        connection.getresponse().read()
        connection.close()

    # --- faults -------------------------------------------------------------------------------------

    def arrived(self, step, connection):
        """A request of the product's came in for this step; answers whether it took effect."""
        is_refund = step.startswith("step_refund")
        if is_refund and not self.has_killed and any("crash" in kind for kind in self.kinds):
            self.has_killed = True
            self.control("kill-runner")
        if is_refund and self.are_refunds_slow:
            mark_fault_applied("delay_response")
            # The client gives up, and so does the refund: what comes late never lands.
            if select.select([connection], [], [], STALL_SECONDS)[0]:
                return False
        if step == STEPS[0] and self.rival_attempt is not None:
            self.race(step)
        effect_class = EffectClass.PAY if is_refund else EffectClass.READ
        self.land(step, effect_class, Disposition.PERFORMED, approval=self.approvals.get(step))
        return True

    def let_a_rival_in(self, execution):
        """A second driver takes the execution while it waits; the product's own runner does after that."""
        body = {"runner": "rival", "runner_version": "judge", "log_format": 1000, "key": execution}
        status, grant = self.call("POST", f"/v1/executions/{execution}/legs", body)
        if status == 201:
            self.rival_attempt = grant["attempt"]
            self.execution = execution

    def race(self, step):
        """Both go on with it: the runner, by the command that runs; the rival, by its attempt."""
        mark_fault_applied("staged_race")
        self.claim(step, granted=True)
        status, _ = self.call(
            "POST", f"/v1/executions/{self.execution}/hold", {"attempt": self.rival_attempt}
        )
        self.claim(step, granted=status < 400)

    def use_what_is_scarce(self, execution):
        """While the model is slow: the database's one writer and a runner's leg, for another execution."""
        started = time.monotonic()
        body = {"agent": "refunds", "input": "[conversation idle] Nothing."}
        granted = False
        with contextlib.suppress(OSError):
            _, other = self.call("POST", "/v1/executions", body, seconds=30)
            while time.monotonic() - started < 30 and not granted:
                granted = self.phase(other["execution_id"]) == "completed"
        if not any(event["type"] == "model.responded" for event in self.events(execution)):
            mark_fault_applied("delay_response")
        disposition = Disposition.PERFORMED if granted else Disposition.REFUSED
        self.land("step_model", EffectClass.WRITE, disposition, target=POOL_ACQUIRE_TARGET)

    # --- the episode ----------------------------------------------------------------------------------

    def phase(self, execution):
        return self.call("GET", f"/v1/executions/{execution}")[1]["phase"]

    def deliver(self):
        """As often as the judge says, and as it was delivered before the process died: one execution."""
        self.ctx.data_dir.mkdir(parents=True, exist_ok=True)
        kept = self.ctx.data_dir / "key.txt"
        is_again = kept.exists()
        if not is_again:
            kept.write_text(f"{self.ctx.run_id}-{time.monotonic_ns()}-{self.stack['started']}")
        conversation = "slow" if self.is_model_slow else "refunds"
        agent = "refunds-in-a-second" if self.are_refunds_slow else "refunds"
        agent = "refunds-withheld" if "withhold_approvals" in self.kinds else agent
        body = {"agent": agent, "input": f"[conversation {conversation}] Refund all three."}
        found = set()
        for _, each in redeliveries(self.ctx.schedule, [("execute:refunds", body)]):
            found.add(self.call("POST", "/v1/executions", each, kept.read_text())[1]["execution_id"])
        if len(found) != 1:
            raise RuntimeError(f"delivered again, it became {len(found)} executions")
        [execution] = found
        if is_again and self.phase(execution) == "completed":
            # The same delivery on the same rows: it is taken, and grants nobody anything.
            self.claim("step_delivery", granted=False)
        return execution

    def decide(self, execution):
        """What a person does: approve each call, but for the refunds where approvals are withheld."""
        withheld = "withhold_approvals" in self.kinds
        for each in self.call("GET", f"/v1/inputs?execution_id={execution}")[1]["items"]:
            step = each["title"].strip().rsplit("/", 1)[1]
            if withheld and step.startswith("step_refund"):
                mark_fault_applied("withhold_approvals")
                continue
            if "staged_race" in self.kinds and step == STEPS[0] and self.rival_attempt is None:
                self.let_a_rival_in(execution)
            self.approvals[step] = each["input_id"]
            self.call("POST", f"/v1/inputs/{each['input_id']}", {"outcome": "approved"})

    def run(self):
        execution = self.deliver()
        if self.is_model_slow:
            self.use_what_is_scarce(execution)
        while (phase := self.phase(execution)) not in ("completed", "failed", "cancelled"):
            self.decide(execution)
            time.sleep(0.1)
        if phase != "completed":
            raise RuntimeError(f"the execution {execution} is {phase}")
        if "withhold_approvals" in self.kinds:
            for each in self.call("GET", f"/v1/inputs?execution_id={execution}&state=resolved")[1]["items"]:
                if each["resolution"]["outcome"] == "expired":
                    step = each["title"].strip().rsplit("/", 1)[1]
                    self.land(step, EffectClass.PAY, Disposition.REFUSED)
        if self.are_refunds_slow:
            ended = [event for event in self.events(execution) if event["type"] == "tool.finished"]
            for step, event in zip(STEPS, ended, strict=False):
                was_cut = 1 <= event["duration_seconds"] < STALL_SECONDS and event["outcome"] != "succeeded"
                if step.startswith("step_refund") and was_cut:
                    self.land(step, EffectClass.WRITE, Disposition.PERFORMED, target=DEADLINE_TARGET)


def run(ctx):
    """The judge's entry."""
    episode = Episode(ctx)

    class Port(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            if not episode.arrived(self.path.strip("/"), self.connection):
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    class Server(http.server.ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

    address = urllib.parse.urlsplit(episode.stack["port"])
    server = Server((address.hostname, address.port), Port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        episode.run()
    finally:
        server.shutdown()
        server.server_close()


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    return next(each / name for each in [folder, *folder.resolve().parents] if (each / name).exists())
