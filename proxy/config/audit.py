"""What a configuration says about the audit log: where it goes, and what of a call stands in it."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from proxy.config.base import Model
from proxy.config.units import Size, Whole
from proxy.config.values import KIB, MIB

STANDARD: Final = ("stdout", "stderr")
"""Words for streams instead of a file."""

SECRET_ARGUMENTS: Final = (
    *("*token*", "*secret*", "*passw*", "*api*key*", "*private*key*"),
    *("*credential*", "*authorization*", "*cookie*"),
)

AUDITED: Final = (
    *("tools/call", "prompts/get", "resources/read", "completion/complete"),
    *("tasks/*", "resources/subscribe", "subscriptions/listen"),
)


class ArgumentsKept(StrEnum):
    """What of a call's arguments stands in the audit log."""

    DROP = "drop"
    REDACT = "redact"
    KEEP = "keep"


class OnFailure(StrEnum):
    """What happens to calls while the audit log cannot be written."""

    CONTINUE = "continue"
    REFUSE = "refuse"


class AuditConfig(Model):
    """The audit log: one JSON object a line for every call, refusal and administrative act. Results are never in it."""

    to: str | None = Field(default=None, min_length=1)
    """A file, relative to the configuration file; or `stderr` or `stdout`. Without it there is no audit log."""
    methods: tuple[str, ...] = AUDITED
    """Globs of methods whose calls are logged."""
    arguments: ArgumentsKept = ArgumentsKept.DROP
    """Arguments of calls: `drop` leaves them out, `redact` masks those that `redact` names, `keep` has them all."""
    redact: tuple[str, ...] = SECRET_ARGUMENTS
    """Globs over the paths of arguments, as in `filters.*.password`; case does not count."""
    max_arguments: Size = 16 * KIB
    """Larger arguments are replaced by their size, in bytes."""
    max_size: Size = 64 * MIB
    """The file is rotated when it would grow beyond this size, in bytes."""
    rotate: bool = True
    """Whether Manifold rotates the file; logrotate may do it as well, and no signal is needed then."""
    keep: Whole = Field(default=8, ge=1, le=1000)
    """Rotated files that are kept, as `NAME.1` (the newest) and so on."""
    queue: Whole = Field(default=10_000, ge=100, le=1_000_000)
    """Lines that wait to be written; what comes when it is full is lost, and counted."""
    on_failure: OnFailure = OnFailure.CONTINUE
    """While lines cannot be written: `continue` serves calls and loses lines, `refuse` refuses calls."""
