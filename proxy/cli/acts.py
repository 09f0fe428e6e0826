"""What is done by a command and belongs into the audit log."""

import getpass
import os
from typing import Any

from proxy import auditing
from proxy.config.model import Config
from proxy.model import Principal


def acted(config: Config, act: str, **facts: Any) -> None:
    """Write an act of whoever runs this command into the audit log, if the configuration has one.

    Raises:
        ConfigError: it cannot be written.
    """
    auditing.act(config.audit, act, principal=_user(), **facts)


def _user() -> Principal:
    number = str(os.getuid()) if hasattr(os, "getuid") else ""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a uid without an entry, as in containers
        name = ""
    return Principal(f"user:{number or name}", name=name)
