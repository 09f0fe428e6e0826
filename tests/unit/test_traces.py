"""Errors that are told let go of where they came from (proxy/traces.py)."""

import pytest

from proxy.traces import traceless
from proxy.wire import envelope
from proxy.wire.envelope import Malformed


def inner() -> None:
    raise IndexError


def outer() -> None:
    try:
        inner()
    except IndexError as error:
        raise ValueError("outer") from error


def failed() -> ValueError:
    with pytest.raises(ValueError, match="outer") as caught:
        outer()
    return caught.value


def test_an_error_and_its_causes_lose_their_frames_and_nothing_else() -> None:
    error = traceless(failed())
    assert error.__traceback__ is None
    assert isinstance(error.__cause__, IndexError)
    assert error.__cause__.__traceback__ is None
    assert str(error) == "outer"


def test_errors_in_a_circle_have_an_end() -> None:
    error = failed()
    assert error.__cause__ is not None
    error.__cause__.__context__ = error
    assert traceless(error).__traceback__ is None


def test_what_is_no_message_is_told_without_frames() -> None:
    for frame in (b"\x00\xff{{{", b'{"jsonrpc": "2.0"}', b'[{"jsonrpc": "2.0"}]', b'{"id": 1}'):
        (told,) = envelope.read(frame)
        assert isinstance(told, Malformed)
        assert told.__traceback__ is None
