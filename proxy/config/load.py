"""Configuration files in, one checked configuration out; everything that is wrong is told at once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from proxy.config.dialects import Findings, canonical
from proxy.config.explain import problems_of
from proxy.config.exposure import exposed_file, exposed_secrets, open_to_all
from proxy.config.finish import Place, finish
from proxy.config.lookups import base_of, local_sources
from proxy.config.merge import merged
from proxy.config.model import Config
from proxy.config.node import Node, node_of, plain
from proxy.config.syntax import Format, format_of, parse
from proxy.config.unreadable import Unreadable
from proxy.errors import ConfigError, Problem

_LARGEST: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and what its reader should know besides."""

    config: Config
    warnings: tuple[Problem, ...] = ()
    files: tuple[Path, ...] = ()
    """The configuration files, in the order given."""
    also_read: tuple[Path, ...] = ()
    """Other files whose content went in: ``${file:...}`` and ``envFile``."""


@dataclass(frozen=True, slots=True)
class _Source:
    root: Node
    base: Path
    application: bool
    exposed: bool = False


def load(*paths: Path | str, env: Mapping[str, str] | None = None) -> Loaded:
    """Read one or several configuration files; ``env`` takes the place of our environment.

    Raises:
        ConfigError: with every problem of every file, in order.
    """
    found = Findings()
    files = tuple(Path(path) for path in paths)
    sources = [source for file in files if (source := _read(file, found)) is not None]
    return _assembled(sources, found, env=env, files=files)


def load_text(text: str, syntax: Format | str, file: str = "", *, env: Mapping[str, str] | None = None) -> Loaded:
    """Read a configuration from a text; ``file`` is its name in messages and the start of relative paths.

    Raises:
        ConfigError: with every problem.
    """
    found = Findings()
    source = _parsed(text, Format(syntax), file, found)
    return _assembled([source] if source else [], found, env=env)


def load_data(data: Mapping[str, Any], *, base: Path | None = None, env: Mapping[str, str] | None = None) -> Loaded:
    """Take a configuration from plain data in any dialect; relative paths start at ``base`` or the working directory.

    Raises:
        ConfigError: with every problem.
    """
    try:
        root = node_of(data)
    except Unreadable as error:
        raise ConfigError([Problem("", error.message)]) from None
    return _assembled([_Source(root, base or Path.cwd(), application=True)], Findings(), env=env)


def _read(path: Path, found: Findings) -> _Source | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
            mode = os.fstat(stream.fileno()).st_mode
        text = _decoded(content)
    except FileNotFoundError:
        found.problems.append(Problem("", "does not exist", "check the path given with --config", str(path)))
    except IsADirectoryError:
        found.problems.append(Problem("", "is a directory, not a file", "name a file in it", str(path)))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found.problems.append(Problem("", "is not UTF-8 text", "save it as UTF-8", str(path), line))
    except OSError as error:
        found.problems.append(Problem("", f"cannot be read: {error.strerror}", "check its permissions", str(path)))
    else:
        if len(content) > _LARGEST:
            found.problems.append(Problem("", "is larger than 8 MiB", "is this a configuration?", str(path)))
            return None
        exposed = exposed_file(mode)
        found.warnings += open_to_all(str(path), mode)
        return _parsed(text, format_of(str(path), text), str(path), found, exposed=exposed)
    return None


def _decoded(content: bytes) -> str:
    """UTF-8 with or without a byte order mark; UTF-16 with one (PowerShell writes it)."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _parsed(text: str, syntax: Format, file: str, found: Findings, *, exposed: bool = False) -> _Source | None:
    try:
        parsed = parse(text, syntax, file)
    except ConfigError as error:
        found.problems += error.problems
        return None
    found.problems += parsed.problems
    base = base_of(Path(file)) if file else Path.cwd()
    return _Source(parsed.root, base, application=syntax is Format.JSON, exposed=exposed)


def _assembled(
    sources: Sequence[_Source], found: Findings, *, env: Mapping[str, str] | None, files: tuple[Path, ...] = ()
) -> Loaded:
    roots: list[Node] = []
    also_read: list[Path] = []
    for source in sources:
        root = canonical(source.root, found, application=source.application)
        if source.exposed:
            found.warnings += exposed_secrets(root)
        lookups, reader = local_sources(source.base, env)
        roots.append(finish(root, lookups, Place(source.base, Path.home()), found))
        also_read += reader.read
    names = [str(file) for file in files]
    config = _validated(roots, found, complete=len(roots) >= len(files))
    if found.problems or config is None:
        raise ConfigError(_in_order(found.problems, names))
    if not config.upstreams:
        name = names[0] if names else ""
        found.warnings.append(Problem("", "no servers are configured", "add some under mcpServers", name))
    return Loaded(config, tuple(_in_order(found.warnings, names)), files, tuple(dict.fromkeys(also_read)))


def _validated(roots: Sequence[Node], found: Findings, *, complete: bool) -> Config | None:
    root = merged(roots, found.problems) if roots else Node({})
    try:
        return Config.model_validate(plain(root))
    except ValidationError as error:
        found.problems += problems_of(error, root, complete=complete)
        return None


def _in_order(problems: Sequence[Problem], files: Sequence[str]) -> list[Problem]:
    """In the order of the files and of the lines in each; a problem is told once."""
    order = {file: index for index, file in enumerate(files)}
    return sorted(dict.fromkeys(problems), key=lambda each: (order.get(each.file, -1), each.line or 0))
