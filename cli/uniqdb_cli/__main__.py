"""``python -m uniqdb_cli`` is the same as ``uniqdb``."""

from uniqdb_cli.main import run

if __name__ == "__main__":
    run()
