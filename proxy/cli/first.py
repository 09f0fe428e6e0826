"""The first start of ``serve --stdio``: the client is answered as soon as what is said is sure to be true.

That is when the configuration has been read. The imports that come after it, FastMCP above all, take much longer.
"""

import os
import secrets
from pathlib import Path

from proxy.cli.reading import keep, read
from proxy.errors import ManifoldError
from proxy.front.early import Unknown
from proxy.front.place import state_root
from proxy.gateway.introducing import introducing


def introduce(start: Unknown) -> None:
    """Have the client answered. A configuration that cannot be served is left for the command to complain of."""
    instance = secrets.token_hex(8)
    try:
        loaded = read(start.files)
        state = loaded.config.server.state_dir
        kept_in = state_root(os.environ) if state is None else Path(state)
        found = introducing(loaded.config, start.agent, kept_in, instance)
    except ManifoldError:
        return
    keep(loaded)
    if found is not None and loaded.config.audit.to != "stdout":
        start.early.teach(found, instance)
