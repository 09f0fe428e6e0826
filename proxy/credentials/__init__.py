"""How Manifold proves itself to upstreams: tokens, where they come from, and where they are kept."""
