"""What an upstream offers to one owner of a credential, where it tells each something else."""

from proxy.errors import Unavailable
from proxy.model import Call, Caller, Era, Listing
from proxy.upstream.groups import collapsed
from proxy.upstream.instances import Group
from proxy.upstream.kinds import AnyUpstream


async def listing_for(upstream: AnyUpstream, caller: Caller) -> Listing:
    """List an upstream with the credential of a caller.

    Raises:
        UpstreamError: it cannot be reached, or the caller has none.
    """
    member = upstream.upstreams[0] if isinstance(upstream, Group) else upstream
    if member.session is None:
        raise Unavailable("it is not connected", upstream=upstream.name)
    era = member.session.era
    version = "2026-07-28" if era is Era.MODERN else caller.version
    asking = Caller(era=era, version=version, agent=caller.agent, principal=caller.principal)
    session = await member.live(Call(member.name, "tools/list", caller=asking))
    with collapsed():
        return await session.list_all()
