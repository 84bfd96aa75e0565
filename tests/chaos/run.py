"""One chaos run, from an empty directory to its report."""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chaos.cluster import Cluster
from chaos.disks import Disk
from chaos.evidence import Evidence, find_left_behind, find_left_processes, gather
from chaos.faults import Injector, kinds_possible
from chaos.invariants import broken_invariants
from chaos.links import Network
from chaos.model import ChaosModel, ChaosScript
from chaos.plan import DISKS, FaultKind, Plan
from chaos.report import Report
from chaos.watch import Watch
from chaos.workload import Workload
from postgres_server import PostgresServer

SETTLE_SECONDS: Final = 480.0
"""For every execution to end, once nothing goes wrong any more: seconds, on a machine that is not busy."""
_DISK_MEGABYTES: Final = 400


def run_chaos(
    make: Callable[[frozenset[FaultKind]], Plan],
    binaries: Path,
    home: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Let the faults of a plan happen, then see what has become of everything.

    Args:
        make: gives the plan, with faults of the kinds that this machine can let happen.
        binaries: of PostgreSQL.
        home: an existing directory; logs stay in it.
        say: told what goes on.
    """
    began_at = time.monotonic()
    with contextlib.ExitStack() as stack:
        disks = {name: stack.enter_context(Disk(_disk_root(stack) / name, _DISK_MEGABYTES)) for name in DISKS}
        postgres_disk, blobs = (disks[name].path for name in DISKS)
        postgres = stack.enter_context(PostgresServer(binaries, directory=postgres_disk))
        network = stack.enter_context(Network())
        model = stack.enter_context(ChaosModel(ChaosScript()))
        cluster = Cluster(home, postgres, network, model.port, blobs)
        stack.callback(cluster.stop)
        kinds = kinds_possible(disks, can_move_clocks=cluster.can_move_clocks)
        plan = make(kinds)
        model.chaos_script.expect(plan)
        cluster.start()
        watch = stack.enter_context(Watch(cluster.database_url))
        say(f"started after {time.monotonic() - began_at:.0f} s; {len(plan.faults)} faults are to come")
        evidence = _live_through(plan, cluster, watch, Injector(cluster, disks, watch), model, say)
        say("ending everything")
        cluster.stop()
        evidence.left_behind += find_left_processes(cluster)
    return Report.of(plan, evidence, broken_invariants(evidence), time.monotonic() - began_at)


def _live_through(
    plan: Plan,
    cluster: Cluster,
    watch: Watch,
    injector: Injector,
    model: ChaosModel,
    say: Callable[[str], None],
) -> Evidence:
    workload = Workload(cluster, plan.works)
    started_at = time.monotonic()
    people = threading.Thread(target=workload.run, args=(started_at,), name="people", daemon=True)
    people.start()
    injector.run(plan.faults, started_at, plan.shape.seconds)
    model.chaos_script.is_healthy = True
    say(f"{len(injector.happened)} faults have come; waiting for the executions to end")
    people.join(SETTLE_SECONDS)
    left = workload.wait_until_ended(SETTLE_SECONDS)
    workload.abandon()
    cluster.wait_until_ready()
    say("gathering what has become of them")
    evidence = Evidence(started_at, injector.happened, gather(cluster, workload.told, model.askings), watch)
    evidence.left_behind += [
        f"{told.execution_id or told.work.key}: it has not ended, or who follows it was not told;"
        f" the last event was {told.last_type or 'none'}"
        for told in left
    ]
    evidence.left_behind += find_left_behind(cluster)
    return evidence


def _disk_root(stack: contextlib.ExitStack) -> Path:
    """Where others may pass through: PostgreSQL runs as another user."""
    root = Path(tempfile.mkdtemp(prefix="stigmer-chaos-"))
    root.chmod(0o711)
    stack.callback(shutil.rmtree, root, ignore_errors=True)
    return root
