"""Starts ContextForge so that it serves without credentials: ``python contextforge.py PORT PROGRAM``.

One process, SQLite in the current folder, everything in memory that can be; no authentication, no limits of rates and
no administration pages, as with the other targets. The secrets that it insists on are made up anew each time.
"""

import os
import secrets
import sys
from pathlib import Path

PORT, PROGRAM = sys.argv[1], sys.argv[2]
SECRET = ("JWT_SECRET_KEY", "AUTH_ENCRYPTION_SECRET", "CSRF_SECRET_KEY")
PASSWORD = ("BASIC_AUTH_PASSWORD", "PLATFORM_ADMIN_PASSWORD")
SETTINGS = {
    "ALLOW_UNAUTHENTICATED_ADMIN": "true",
    "AUTH_REQUIRED": "false",
    "BASIC_AUTH_USER": "admin",
    "CACHE_TYPE": "memory",
    "DATABASE_URL": f"sqlite:///{Path.cwd() / f'contextforge-{PORT}.db'}",
    "LOG_LEVEL": "ERROR",
    "MCPGATEWAY_ADMIN_API_ENABLED": "false",
    "MCPGATEWAY_UI_ENABLED": "false",
    "OBSERVABILITY_ENABLED": "false",
    "PAGINATION_DEFAULT_PAGE_SIZE": "500",
    "PLATFORM_ADMIN_EMAIL": "admin@example.com",
    "PLUGINS_ENABLED": "false",
    "RATE_LIMITING_ENABLED": "false",
    "SSRF_ALLOW_LOCALHOST": "true",
    "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
}
os.environ.pop("PYTHONPATH", None)
os.environ.update(SETTINGS)
os.environ.update({name: secrets.token_urlsafe(48) for name in SECRET})
os.environ.update({name: f"Aa1!{secrets.token_urlsafe(24)}" for name in PASSWORD})
os.execv(PROGRAM, [PROGRAM, "--host", "127.0.0.1", "--port", PORT, "--log-level", "error"])  # noqa: S606 - no shell is wanted
