"""``mcp-manifold logout``: Manifold acts for somebody at an upstream no more."""

import anyio

from proxy.cli.acts import acted
from proxy.cli.login import ForAgent, ForPrincipal, the_login, the_vault
from proxy.cli.options import ConfigFiles, load_config
from proxy.credentials.login import log_out
from proxy.telemetry import logging


def logout(
    upstream: str, /, *, agent: ForAgent = None, principal: ForPrincipal = None, config: ConfigFiles = None
) -> int:
    """Have the authorization server revoke a login where it offers that, and forget it in any case.

    The exit status is 1 when nobody was logged in.
    """
    logging.configure(level="warning")
    loaded = load_config(config).config
    slot, auth = the_login(loaded, upstream, agent, principal)
    was, revoked = anyio.run(log_out, slot, auth, the_vault(loaded))
    if not was:
        print(f"Nobody was logged in to {upstream}.")
        return 1
    acted(loaded, "upstream.logout", upstream=upstream, revoked=revoked, agent=agent, owner=principal)
    how = "its tokens were revoked" if revoked else "its authorization server revokes no tokens: they end by themselves"
    print(f"Logged out of {upstream}; {how}.")
    return 0
