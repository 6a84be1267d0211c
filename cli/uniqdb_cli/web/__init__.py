"""The page and its API: a server that only reads a store, and never writes anything."""
