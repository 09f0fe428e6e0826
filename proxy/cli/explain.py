"""``mcp-manifold explain``: where a name comes from."""

from typing import Annotated

from cyclopts import Parameter

from proxy.agents.absent import Absence, absences
from proxy.agents.explain import Explanation
from proxy.agents.explain import explain as explained
from proxy.catalog.showing import on_one_line
from proxy.cli.asking import ask
from proxy.cli.options import AgentName, ConfigFiles
from proxy.errors import RoutingError
from proxy.runtime import Runtime


def explain(
    name: Annotated[str, Parameter(help="A public name, an exported URI, server.tool, or a tool's own name.")],
    *,
    config: ConfigFiles = None,
    agent: AgentName = None,
) -> int:
    """Say which upstream a name leads to, what it is called there, and why it is called what it is called here.

    What has that name and is not seen, because it is held back, filtered out or hidden, is told with the reason.
    """

    async def question(runtime: Runtime) -> tuple[tuple[Explanation, ...], tuple[Absence, ...]]:
        absent = absences(runtime.holder.current, runtime.config.agents, runtime.view, agent, name)
        try:
            return explained(runtime.view(agent), name), absent
        except RoutingError:
            if not absent:
                raise
            return (), absent

    found, absent = ask(config, agent, question)
    for one in found:
        print("\n".join(_lines(one)))
    for missing in absent:
        print("\n".join(_why_not(missing)))
    return 0


def _why_not(missing: Absence) -> list[str]:
    name = on_one_line(missing.own)
    lines = [f"{missing.kind.value} {name} (not seen)", f"  upstream  {missing.upstream}"]
    return lines + [f"  because   {reason}" for reason in missing.reasons]


def _lines(one: Explanation) -> list[str]:
    why = f" ({one.why.value})" if one.why is not None else ""
    lines = [f"{one.kind.value} {one.public}{why}", f"  upstream  {one.upstream}", f"  own name  {one.own}"]
    if one.shown and one.shown != one.public:
        lines.append(f"  shown as  {one.shown}")
    if one.pattern:
        lines.append(f"  pattern   {one.pattern} → {one.plain}")
    if one.rivals:
        lines.append(f"  collides  {', '.join(one.rivals)}")
    if one.aliases:
        lines.append(f"  aliases   {', '.join(one.aliases)}")
    if one.changes:
        named = ", ".join(f'"{line}"' for line in one.overrides)
        lines.append(f"  override  {named} {'; '.join(one.changes)}")
    return lines
