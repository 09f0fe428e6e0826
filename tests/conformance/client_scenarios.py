"""The suite's client scenarios: those that concern Manifold's upstream side, and why the others do not."""

from typing import Final

PASSING: Final = {
    "2025-11-25": (
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}
"""Wire -> scenarios that pass."""

NOT_ASKED: Final = {
    "http-standard-headers": ("initialize and its notification do not exist on this wire", 2),
    "request-metadata": ("its server offers nothing, so nobody calls it who could be asked something", 3),
}
"""Scenario -> why some of its checks find nothing to look at, and how many."""

ELSEWHERE: Final = {
    "auth/": "OAuth with an upstream needs a person and a browser, or credentials of its own",
    "sep-2640-": "skills are for the program that loads them; Manifold passes their resources on untouched",
}
"""Beginning of scenario names -> why they are not run."""
