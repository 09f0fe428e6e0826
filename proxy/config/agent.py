"""What a configuration says about one agent."""

from proxy.config.access import AccessConfig
from proxy.config.inbound import Token
from proxy.config.values import Filter, NameStyle


class AgentConfig(AccessConfig):
    """A named namespace: what its downstreams see."""

    servers: tuple[str, ...] = ("*",)
    """The upstreams it sees: names or globs."""
    tools: Filter = Filter()
    """Which tools it sees, by public name or by their own."""
    resources: Filter = Filter()
    """Which resources it sees, by URI."""
    prompts: Filter = Filter()
    """Which prompts it sees, by public name or by their own."""
    names: NameStyle = NameStyle.LOCAL
    """Whether it sees the tools' own names where they are unambiguous, or always the public ones."""
    tokens: tuple[Token, ...] = ()
    """Bearer tokens by which it is recognised, as references to secrets."""
