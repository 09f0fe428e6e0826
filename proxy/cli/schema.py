"""``mcp-manifold schema``: the JSON Schema of configuration files."""

import json

from proxy.config.schema import file_schema


def schema() -> int:
    """Print the JSON Schema of the configuration, for editors and checks."""
    print(json.dumps(file_schema(), indent=2))
    return 0
