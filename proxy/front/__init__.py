"""The thin front: what has to start at once. Nothing in here imports anything but the standard library.

``connect`` bridges standard input and output to a Manifold that runs already; ``early`` answers the first requests of
``serve --stdio`` while the rest of the program is still being imported. ``tests/unit/front`` fails when an import makes
the front heavy. Of the package only ``proxy.wire.headers`` and ``proxy.config.discover`` are used, which are as light.
"""
