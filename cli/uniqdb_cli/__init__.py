"""The command line of uniqdb: one command per module, `main` puts them together.

The libraries that take long to load (numpy, LMDB, msgspec, rich) are imported inside the commands that need them:
``uniqdb --help`` and a mistyped option answer at once.
"""
