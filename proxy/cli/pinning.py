"""What ``check`` says of pinned definitions and of suspicious texts: hints for people, no problems."""

import anyio.to_thread

from proxy.catalog.pinfile import PinStore
from proxy.catalog.pinning import PENDING, compare, definitions
from proxy.cli.options import state_dir
from proxy.config.model import PinMode
from proxy.runtime import Runtime
from proxy.trust import DIRECTORY, owners_of

_SHOWN = 10


async def pin_lines(runtime: Runtime) -> list[str]:
    """What waits for a decision by the pins on disk, and what is suspicious, of a runtime that keeps none itself."""
    store = PinStore(state_dir(runtime.config) / DIRECTORY)
    out: list[str] = []
    for name, owner in owners_of(runtime.config).items():
        listing = runtime.holder.current.listings.get(name)
        pins = await anyio.to_thread.run_sync(store.load, owner)
        if pins is None or listing is None:
            continue
        count = sum(one.state in PENDING for one in compare(pins, definitions(listing)))
        held = " and held back" if runtime.config.pin_of(name) is PinMode.HOLD else ""
        if pins.fault:
            out.append(f"! {name}: {pins.fault}")
        elif count:
            out.append(f"! {name}: {count} definitions are new or changed{held}: `mcp-manifold review --fresh {name}`")
    await runtime.trust.doubts.read()
    for upstream in runtime.registry:
        remarks = runtime.trust.doubts.remarks(upstream.name)
        out += [f"? {upstream.name}: {remark}" for remark in remarks[:_SHOWN]]
        if len(remarks) > _SHOWN:
            out.append(f"? {upstream.name}: {len(remarks) - _SHOWN} more suspicious texts")
    return out
