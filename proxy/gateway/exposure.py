"""Listening beyond this machine without asking for credentials: refused, unless the operator says so."""

from pathlib import Path

from proxy.config.inbound import is_loopback
from proxy.config.model import Config
from proxy.errors import ConfigError, Problem
from proxy.gateway.identity import has_credentials
from proxy.gateway.tokens import TokenFile


def check_exposure(config: Config, state: Path | None, file: str = "") -> None:
    """Make sure that whoever can reach the doors has to present a credential.

    Args:
        config: says where to listen, and which credentials there are.
        state: the state directory, where API tokens are.
        file: the configuration, for the message.

    Raises:
        ConfigError: everybody who reaches the address could use everything.
    """
    server = config.server
    if server.insecure or is_loopback(server.host) or has_credentials(config):
        return
    if state is not None and TokenFile(state).exists:
        return
    what = f"{server.host} is reached from other machines, and nobody has to present a credential"
    hint = (
        "add agents.<name>.tokens or auth to the configuration, make a token with `mcp-manifold token create`, listen "
        "on 127.0.0.1, or say --insecure (server.insecure) if something in front of it asks who comes"
    )
    raise ConfigError([Problem("server.host", what, hint, file)])
