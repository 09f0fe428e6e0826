"""What makes an upstream the same server as before: its last-known listing is worth something only while this holds."""

import json

from proxy.config.model import UpstreamConfig


def identity_of(config: UpstreamConfig) -> str:
    """A text that differs whenever another server may answer. Names of secrets are in it, their values are not."""
    auth = config.auth
    login = [] if auth is None else [("auth", (auth.type.value, auth.client_id, auth.issuer, auth.scopes))]
    return json.dumps(
        {
            "type": config.type.value,
            "command": config.command,
            "args": config.args,
            "cwd": config.cwd,
            "endpoints": config.endpoints,
            "env": sorted(config.env),
            "headers": sorted(config.headers),
            **dict(login),
        }
    )
