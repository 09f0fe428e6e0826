"""Agents: the catalog as one of them sees it, and how a name or URI that it uses is resolved."""
