"""A connection to Temporal, as the settings say."""

from pathlib import Path
from typing import Final

from temporalio.client import Client, TLSConfig
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import KeepAliveConfig

from agent_runner.settings import RunnerSettings

KEEP_ALIVE: Final = KeepAliveConfig(interval_millis=11_000, timeout_millis=8_000)
"""A connection that swallows everything is given up after 19 s at most. More often than every 10 s Temporal's
frontend allows nobody, and cuts the connection (1.32, `frontend.keepAliveMinTime`)."""


async def connect(settings: RunnerSettings, identity: str) -> Client:
    """One try.

    Raises:
        RPCError, RuntimeError: Temporal does not answer.
    """
    api_key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=api_key,
        tls=_tls(settings) if settings.uses_temporal_tls else False,
        identity=identity,
        data_converter=pydantic_data_converter,
        keep_alive_config=KEEP_ALIVE,
    )


def _tls(settings: RunnerSettings) -> TLSConfig:
    def read(path: Path | None) -> bytes | None:
        return None if path is None else path.read_bytes()

    return TLSConfig(
        server_root_ca_cert=read(settings.temporal_tls_server_ca_cert_path),
        domain=settings.temporal_tls_server_name,
        client_cert=read(settings.temporal_tls_client_cert_path),
        client_private_key=read(settings.temporal_tls_client_key_path),
    )
