"""What a tool says of itself, and whether that is enough for an agent. Its upstream's claim, not a fact. Pure."""

from collections.abc import Mapping

from proxy.config.access import HintsConfig
from proxy.model import Params


def hints_of(tool: Params) -> dict[str, bool]:
    """The annotations of a tool, with the defaults of MCP: a tool that says nothing may do anything.

    What is read-only destroys nothing, and running it twice is the same as once.
    """
    notes = tool.get("annotations")
    said = (
        {name: value for name, value in notes.items() if isinstance(value, bool)} if isinstance(notes, Mapping) else {}
    )
    reads = said.get("readOnlyHint", False)
    return {
        "readOnlyHint": reads,
        "destructiveHint": not reads and said.get("destructiveHint", True),
        "idempotentHint": reads or said.get("idempotentHint", False),
        "openWorldHint": said.get("openWorldHint", True),
    }


def wanted_hints(hints: HintsConfig, *, read_only: bool) -> dict[str, bool]:
    """What a tool must say so that an agent sees it; empty if it need not say anything."""
    wanted: dict[str, bool] = {name: value for name, value in hints if value is not None}
    return {**wanted, "readOnlyHint": True} if read_only else wanted


def lacking(tool: Params, wanted: Mapping[str, bool]) -> tuple[str, ...]:
    """What a tool does not say although it must, as ``readOnlyHint: true``; empty if it passes."""
    if not wanted:
        return ()
    said = hints_of(tool)
    return tuple(f"{name}: {str(value).lower()}" for name, value in wanted.items() if said[name] is not value)
