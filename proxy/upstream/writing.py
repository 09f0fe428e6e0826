"""Turning what others composed into bytes."""

from collections.abc import Callable
from typing import Any

from proxy.errors import InvalidArguments
from proxy.wire.envelope import Unwritable


def written(write: Callable[..., bytes], *args: Any) -> bytes:
    """Write a message with one of the writers of ``proxy.wire.envelope``.

    Raises:
        InvalidArguments: it cannot be written as JSON; nothing was sent.
    """
    try:
        return write(*args)
    except Unwritable as error:
        raise InvalidArguments(str(error)) from error
