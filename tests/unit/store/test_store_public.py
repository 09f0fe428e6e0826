"""The public names."""

import subprocess
import sys

import pytest

import proxy


@pytest.mark.parametrize("name", proxy.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    found = getattr(proxy, name)
    assert name == "__version__" or found.__doc__


def test_public_names_are_listed() -> None:
    assert set(proxy.__all__) <= set(dir(proxy))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Manyfold'"):
        proxy.Manyfold  # noqa: B018 - looking it up is the test


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, proxy; print([name for name in ('anyio', 'pydantic', 'structlog', 'mcp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_api_brings_no_server_along() -> None:
    code = (
        "import sys; from proxy import Manifold; print([n for n in ('fastmcp', 'mcp', 'uvicorn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
