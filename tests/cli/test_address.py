"""Where something is served, in the words of a user."""

import pytest

from uniqdb.errors import UsageError
from uniqdb_cli.address import parse_address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("name:65535", ("name", 65_535)),
        ("name:00080", ("name", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    address = parse_address(text)
    assert (address.host, address.port) == found


@pytest.mark.parametrize("port", ["", "-1", "65536", "9" * 5_000, "\u00b2", "\u0661", "80 ", "0x50", "1_0"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        parse_address(f"127.0.0.1:{port}")


@pytest.mark.parametrize("text", ["", ":", ":80", "::1:80", "80", "name"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        parse_address(text)
