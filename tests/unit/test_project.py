"""The repository as a whole: what a newcomer, a release and a reader rely on."""

import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import proxy
from docs.generate import FOLDER, pages
from proxy import errors

ROOT = Path(__file__).parents[2]
LINES = 300
LONGER: dict[str, str] = {}
"""Modules with more lines than that, each with its reason."""

# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "a package registry's host": re.compile(
        r"https?://[a-z0-9.-]*(?:"
        + "|".join(("py" + "pi", "regis" + "try", "npm" + "js", "hos" + "ted"))
        + r")[a-z0-9.-]*/"
    ),
    "a path of one machine": re.compile(
        r"(?<![A-Za-z0-9._~-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "home/[a-z]+", "Users/[A-Za-z]+")) + r")/"
    ),
    "a private key": re.compile("-----BEGIN [A-Z ]*PRIVATE " + "KEY-----"),
}


def tracked() -> list[Path]:
    """Files of the repository, and those that would become part of it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path, content.decode()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a package registry's host", "see https://registry." + "npm" + "js.org/x"),
        ("a path of one machine", "in /ro" + "ot/.cache"),
        ("a private key", "-----BEGIN RSA PRIVATE " + "KEY-----"),
    ],
)
def test_what_must_not_be_there_would_be_found(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_no_lock_file_is_kept() -> None:
    locks = {"uv.lock", "package-lock.json", "poetry.lock", "Pipfile.lock", "yarn.lock", "pnpm-lock.yaml"}
    assert [path for path in tracked() if path.name in locks] == []


def test_every_make_command_in_the_documents_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        (path.name, command)
        for path, text in texts()
        if path.suffix == ".md"
        for command in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)
    }
    assert {command for name, command in used if name == "README.md"} == {"run", "test"}
    assert {command for _, command in used} <= targets


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path, text in texts()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", text)
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_documents_named_in_the_code_exist() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts()
        if path.suffix in {".py", ".toml", ".yaml"} and "tests" not in path.parts
        for name in re.findall(r"\bdocs/[\w/-]+\.md", text)
        if not (ROOT / name).exists()
    ]
    assert missing == []


def test_every_error_is_explained() -> None:
    explained = set(re.findall(r"^## (.+)$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ManifoldError)
    ]
    assert explained == {kind.code for kind in kinds}
    assert len(explained) == len(kinds)  # a code of its own for each
    assert all(kind.advice for kind in kinds)
    for module in walk_packages(proxy.__path__, "proxy."):
        if not module.name.startswith("proxy.demo") and not module.name.endswith("__main__"):
            import_module(module.name)
    assert {kind.code for kind in _family(errors.ManifoldError)} <= explained


def _family(kind: type[errors.ManifoldError]) -> Iterator[type[errors.ManifoldError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


@pytest.mark.parametrize("name", pages())
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "run `make docs`"


def test_the_changelog_keeps_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert text.startswith("# Changelog\n")
    assert releases[0] == "[Unreleased]"
    assert [one for one in releases[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", one)] == []
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_changelog_knows_no_version_after_this_one() -> None:
    released = re.findall(r"^## \[(\d+)\.(\d+)\.(\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    current = tuple(int(part) for part in proxy.__version__.split("."))
    assert all(tuple(int(part) for part in release) <= current for release in released)


def test_the_package_has_one_version() -> None:
    named = [
        str(path.relative_to(ROOT))
        for path, text in texts()
        if path.suffix == ".py" and re.search(r'^__version__ = "', text, re.MULTILINE)
    ]
    assert named == ["proxy/__init__.py"]
    assert re.search(r'^path = "proxy/__init__\.py"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_modules_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(text.splitlines())
        for path, text in texts()
        if path.suffix == ".py" and path.is_relative_to(ROOT / "proxy")
    }
    assert {name: length for name, length in lengths.items() if length > LINES} == {
        name: lengths.get(name, 0) for name in LONGER
    }
