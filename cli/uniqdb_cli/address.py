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
    number = port_number(port)
    if not (host and colon) or number is None:
        raise UsageError(
            f"{text!r} is no address to serve metrics at", hint="write HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464"
        )
    return Address(host, number)


def port_number(text: str) -> int | None:
    """The port that digits name, 0 included; None: they, or other characters, name none."""
    is_number = text.isascii() and text.isdigit() and len(text) < 6
    return int(text) if is_number and int(text) < 65_536 else None
