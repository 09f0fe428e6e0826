"""The garbage collector during imports."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def resting() -> Iterator[None]:
    """Let the collector rest: nothing that an import makes is garbage. What is there at the end it need not look at."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
