"""On which systems a store can work."""

from uniqdb.errors import PlatformUnsupported


def assert_supported(platform: str) -> None:
    """Raise PlatformUnsupported for Windows; ``platform`` is named as in `sys.platform`.

    A store needs what POSIX has: locks that end with their process, renames over open files, signals.
    """
    if platform == "win32":
        raise PlatformUnsupported(
            "uniqdb does not run on Windows itself",
            hint="use it inside WSL 2 or Docker, where it is on Linux",
        )
