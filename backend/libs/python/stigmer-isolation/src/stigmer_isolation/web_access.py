"""What the networks `none`, `web` and `all` mean for commands on this machine."""

from dataclasses import dataclass
from typing import Final

from stigmer_isolation.errors import CommandNotStarted
from stigmer_isolation.zygote.landlock import PORTS_ABI
from stigmer_isolation.zygote.policy import Network, Policy

DNS_PORT: Final = 53
_DEFAULT_PORTS: Final = (443,)


@dataclass(frozen=True)
class WebAccess:
    """Which TCP ports `web` opens. Names are resolved over TCP, since datagrams could go anywhere."""

    ports: tuple[int, ...] = _DEFAULT_PORTS
    """Of any host. Not 80: behind it cloud providers serve their machines' credentials."""
    proxy: str | None = None
    """A URL, told to commands in the usual variables; `ports` should then hold nothing but its port."""

    def allow(self, policy: Policy, network: Network) -> Policy:
        """The policy with that network.

        Raises:
            CommandNotStarted: `web`, where ports cannot be held to.
        """
        is_isolated = bool(policy.landlock_abi or policy.has_seccomp)
        if network == "web" and is_isolated and policy.landlock_abi < PORTS_ABI:
            raise CommandNotStarted(
                "the command was not started: `network: web` needs Linux 6.7 with Landlock, "
                "which this machine does not have; use `network: none` or `network: all`"
            )
        return policy._replace(network=network, ports=(*self.ports, DNS_PORT) if network == "web" else ())

    def environment(self, network: Network) -> dict[str, str]:
        """Variables that commands with that network get."""
        if network == "none":
            return {}
        variables = {"RES_OPTIONS": "use-vc"} if network == "web" else {}
        if self.proxy is not None:
            names = ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
            variables |= dict.fromkeys(names, self.proxy)
        return variables
