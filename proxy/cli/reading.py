"""The configuration that was read before the command line was: it is not read a second time."""

from pathlib import Path

from proxy.config.load import Loaded, load

_kept: list[Loaded] = []


def keep(loaded: Loaded) -> None:
    """Keep what was read for the command that comes."""
    _kept[:] = [loaded]


def read(files: tuple[Path, ...]) -> Loaded:
    """Read configuration files, unless it was just done.

    Raises:
        ConfigError: with every problem.
    """
    kept = [one for one in _kept if one.files == files]
    _kept.clear()
    return kept[0] if kept else load(*files)
