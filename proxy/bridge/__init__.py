"""Joining a downstream and an upstream of different eras."""
