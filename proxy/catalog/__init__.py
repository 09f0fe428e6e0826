"""The catalog: what all upstreams offer, under names that tell them apart. Pure functions, one holder, one store."""
