"""The tower: layers of resilience around whatever answers a call.

A ``Service`` answers calls; a ``Layer`` wraps a service in another one. One file holds one behaviour, and each is
usable alone. A layer object holds the layer's state and its policy: ``retune`` swaps the policy and keeps the state.

This package knows ``Call``, ``Reply`` and the errors. It knows no MCP server, no configuration and no transport, and
it leaves the order of the layers to ``proxy/upstream/stack.py``.

Two planes. A reply that says ``isError`` is a *success* here: the tool failed, the upstream works. So is a JSON-RPC
error (``Rejected``). What counts as a failure of the upstream stands in ``verdict.py``.
"""
