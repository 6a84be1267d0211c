"""Where a service is asked for its metrics."""

from dataclasses import dataclass

from uniqdb.errors import UsageError

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""What this machine calls itself in a Host header, without the port."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, as the user wrote it."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        import ipaddress

        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def text(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``127.0.0.1:9464``, ``[::1]:9464``, ``name:9464``; port 0 takes a free one. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (host and colon and port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65_536):
        raise UsageError(
            f"{text!r} is no address to serve metrics at", hint="write HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464"
        )
    return Address(host, int(port))
