"""What a configuration says about who may come in: tokens, JWTs, and where clients log in."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.base import Model, validated
from proxy.config.rules import Fault
from proxy.config.units import DurationOrZero
from proxy.config.values import refuse_when

SHORTEST: Final = 16
"""Characters of a token at least."""

_RANDOM: Final = "make a random one, as with `openssl rand -hex 32`"
_SYMMETRIC: Final = "HS"
_ALGORITHMS: Final = frozenset(
    {f"{family}{size}" for family in ("HS", "RS", "ES", "PS") for size in (256, 384, 512)} | {"Ed25519", "EdDSA"}
)


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text) < SHORTEST or not text.isascii() or not text.isprintable() or " " in text:
        what = f"is not a token: at least {SHORTEST} visible ASCII characters, without spaces"
        raise PydanticCustomError("rule", "{what}", {"what": what, "hint": _RANDOM})
    return secret


def _several(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) or value is None else (value,)


def _url_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https") or not host:
        return "is not an http or https URL"
    return "" if parts.scheme == "https" or is_loopback(host) else "is not https, and not on this machine"


def _algorithm_fault(name: str) -> str:
    return "" if name in _ALGORITHMS else "is no algorithm for signed tokens that is known here"


Token = Annotated[SecretStr, AfterValidator(_token)]
SafeUrl = Annotated[str, refuse_when(_url_fault, "write it like https://login.example.com")]
Algorithm = Annotated[str, refuse_when(_algorithm_fault, f"one of {', '.join(sorted(_ALGORITHMS))}")]
Texts = Annotated[tuple[str, ...], BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...])]


class JwtConfig(Model):
    """Signed tokens of one issuer that are taken."""

    issuer: str = Field(min_length=1)
    """Who issues them: their ``iss``, exactly."""
    audience: Texts = ()
    """Whom they must be for: one of these is in their ``aud``. By default the URLs of Manifold's own doors below
    ``auth.oauth.url``."""
    jwks_url: SafeUrl | None = None
    """Where the issuer's keys are."""
    public_key: SecretStr | None = None
    """The issuer's one key instead, as PEM; for HS algorithms the shared secret."""
    algorithms: Annotated[
        tuple[Algorithm, ...], BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...])
    ] = Field(default=("RS256",), min_length=1)
    """How they may be signed."""
    agents_claim: str | None = None
    """The claim that names the agents they are bound to, as a text or a list; a token without it is refused. By default
    they are bound to none."""
    required_scopes: Texts = ()
    """Scopes that they must have."""
    leeway: DurationOrZero = 30.0
    """How long before their ``nbf`` they are taken, because clocks differ, in seconds."""
    keys_interval: DurationOrZero = 30.0
    """The shortest time between two fetches of the keys, in seconds."""

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        return validated(cls.__name__, lambda: handler(data), _jwt_faults(data))


class OAuthConfig(Model):
    """What clients are told so that they log in by themselves (RFC 9728)."""

    url: SafeUrl
    """The address under which clients reach Manifold, without a path, as in https://manifold.example.com."""
    authorization_servers: Annotated[
        tuple[SafeUrl, ...], BeforeValidator(_several, json_schema_input_type=str | tuple[str, ...])
    ] = ()
    """Where they log in; by default the issuers under ``auth.jwt``."""
    scopes: Texts = ()
    """The scopes they ask for; by default those that ``auth.jwt`` requires."""


PARTS: Final[Mapping[str, type[Model]]] = MappingProxyType({"jwt": JwtConfig, "oauth": OAuthConfig})
"""The members of ``auth`` that have members."""


class InboundConfig(Model):
    """Who may come in. As soon as there is anything here, or an agent has tokens, every HTTP door asks."""

    tokens: tuple[Token, ...] = ()
    """Bearer tokens that are bound to no agent; those of one agent stand under ``agents.<name>.tokens``."""
    jwt: Annotated[
        tuple[JwtConfig, ...], BeforeValidator(_several, json_schema_input_type=JwtConfig | tuple[JwtConfig, ...])
    ] = ()
    """The issuers whose signed tokens are taken."""
    oauth: OAuthConfig | None = None
    """How clients log in by themselves."""

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        return validated(cls.__name__, lambda: handler(data), _auth_faults(data))


def token_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Tokens that stand in two places: nobody could tell whose they are."""
    seen: dict[str, str] = {}
    for where, loc, token in _tokens(data):
        text = token.get_secret_value() if isinstance(token, SecretStr) else str(token)
        if seen.setdefault(text, where) != where:
            yield Fault(loc, f"is the same token as one under {seen[text]}", "give each its own")


def _tokens(data: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str | int, ...], Any]]:
    agents, auth = data.get("agents"), data.get("auth")
    places: list[tuple[tuple[str, ...], Any]] = [(("auth", "tokens"), _member(auth, "tokens"))]
    if isinstance(agents, Mapping):
        places += [(("agents", str(name), "tokens"), _member(entry, "tokens")) for name, entry in agents.items()]
    for path, tokens in places:
        for index, token in enumerate(tokens if isinstance(tokens, (list, tuple)) else ()):
            yield ".".join(path), (*path, index), token


def _member(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _jwt_faults(data: Any) -> Iterable[Fault]:
    if not isinstance(data, Mapping):
        return
    url, key = data.get("jwks_url"), data.get("public_key")
    if (url is None) == (key is None):
        what = "is missing" if url is None else "stands next to public_key"
        yield Fault(("jwks_url",), what, "give one of jwks_url and public_key")
    algorithms = _several(data.get("algorithms")) or ()
    if url is not None and any(str(one).startswith(_SYMMETRIC) for one in algorithms):
        yield Fault(("algorithms",), "has an HS algorithm, whose key is a secret that no URL publishes", "remove it")
    if len({str(one).startswith(_SYMMETRIC) for one in algorithms}) > 1:
        yield Fault(("algorithms",), "mixes HS algorithms with others, for which one key cannot be", "keep one kind")


def _auth_faults(data: Any) -> Iterable[Fault]:
    if not isinstance(data, Mapping):
        return
    oauth, issuers = data.get("oauth"), _several(data.get("jwt")) or ()
    if oauth is not None and not issuers:
        yield Fault(("oauth",), "says where clients log in, but no token from there is taken", "add auth.jwt")
    for index, one in enumerate(issuers):
        if oauth is None and isinstance(one, Mapping) and not one.get("audience"):
            hint = "name whom the tokens must be for, or give auth.oauth.url"
            yield Fault(("jwt", index, "audience"), "is missing", hint)
