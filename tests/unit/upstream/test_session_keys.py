"""Who shares a session with an upstream."""

import pytest

from proxy.config.model import Scope
from proxy.model import Caller, Era, Principal
from proxy.upstream.pool import key_for

ANN, EVE = Principal("token:ann"), Principal("token:eve")


@pytest.mark.parametrize(
    ("scope", "one", "other", "shared"),
    [
        (Scope.SHARED, Caller(principal=ANN), Caller(principal=EVE), True),
        (Scope.AGENT, Caller(principal=ANN, agent="a"), Caller(principal=EVE, agent="a"), True),
        (Scope.AGENT, Caller(principal=ANN, agent="a"), Caller(principal=ANN, agent="a+b"), False),
        (Scope.CLIENT, Caller(principal=ANN, session="1"), Caller(principal=ANN, session="2"), False),
        (Scope.CLIENT, Caller(principal=ANN), Caller(principal=EVE), False),
        (Scope.CLIENT, Caller(principal=ANN), Caller(principal=ANN), True),
        (Scope.CLIENT, Caller(principal=ANN, agent="a"), Caller(principal=ANN, agent="b"), False),
    ],
)
def test_a_session_is_shared_by_those_of_its_scope(scope: Scope, one: Caller, other: Caller, shared: bool) -> None:
    assert (key_for(one, Era.HANDSHAKE, scope) == key_for(other, Era.HANDSHAKE, scope)) is shared
