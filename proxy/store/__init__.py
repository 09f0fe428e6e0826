"""The Python API: the machinery of Manifold inside a program of one's own, without a server (docs/guide/python.md).

Only a thin shell over ``proxy.runtime``: the same supervisors, catalog, names, tower and errors as behind the server.
"""
