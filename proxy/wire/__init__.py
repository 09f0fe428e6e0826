"""JSON-RPC and its framings on bytes: envelope, lines, server-sent events, HTTP header values. No I/O."""
