"""What a pod breaks of Kubernetes' restricted Pod Security Standard (v1.34), which includes the baseline."""

from collections.abc import Iterator
from typing import Any, Final

VOLUME_TYPES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
SECCOMP_TYPES: Final = frozenset({"RuntimeDefault", "Localhost"})
SELINUX_TYPES: Final = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
APPARMOR_TYPES: Final = frozenset({"RuntimeDefault", "Localhost"})
SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")
HANDLERS: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod: dict[str, Any]) -> list[str]:
    """The rules that a pod's spec breaks, as `field: rule`, in the order of the standard's controls."""
    return list(_of_pod(pod)) + [
        broken
        for kind in CONTAINER_LISTS
        for container in pod.get(kind, [])
        for broken in _of_container(container, pod.get("securityContext", {}))
    ]


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field}: must be false"
    for volume in pod.get("volumes", []):
        if not volume.keys() - {"name"} <= VOLUME_TYPES:
            yield f"volumes: {sorted(volume.keys() - {'name'})} are not allowed"
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctls: {sysctl['name']} is not safe"
    if context.get("runAsUser") == 0:
        yield "runAsUser: must not be 0"
    yield from _of_either(context)


def _of_container(container: dict[str, Any], of_pod: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    capabilities = context.get("capabilities", {})
    if context.get("privileged"):
        yield "privileged: must be false"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation: must be false"
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities: must drop ALL"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "capabilities: may add NET_BIND_SERVICE only"
    if context.get("procMount", "Default") != "Default":
        yield "procMount: must be Default"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort: must not be set"
    if any("host" in action for action in _network_actions(container)):
        yield "host: must not be set in probes and hooks"
    if context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot: must be true"
    if context.get("runAsUser") == 0:
        yield "runAsUser: must not be 0"
    seccomp = context.get("seccompProfile", of_pod.get("seccompProfile", {}))
    if seccomp.get("type") not in SECCOMP_TYPES:
        yield "seccompProfile: must be RuntimeDefault or Localhost"
    yield from _of_either(context)


def _of_either(context: dict[str, Any]) -> Iterator[str]:
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions: only container types, no user, no role"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in APPARMOR_TYPES:
        yield "appArmorProfile: must be RuntimeDefault or Localhost"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess: must be false"


def _network_actions(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    handlers = [container.get(name, {}) for name in HANDLERS] + list(container.get("lifecycle", {}).values())
    for handler in handlers:
        yield from (handler[kind] for kind in ("httpGet", "tcpSocket") if kind in handler)
