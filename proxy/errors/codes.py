"""The JSON-RPC error codes that Manifold uses."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002
"""Handshake era only; the modern era says INVALID_PARAMS with ``data.uri``."""
URL_ELICITATION_REQUIRED = -32042
"""2025-11-25 only; the modern era asks with ``input_required``."""
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
