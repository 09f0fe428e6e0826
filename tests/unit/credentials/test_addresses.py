"""Which addresses and URLs that were learned from the network are asked."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credentials.addresses import Trust, origin_of, url_refused

NOBODY = Trust()
HERE = Trust(frozenset({"http://127.0.0.1:8000"}), frozenset({ip_address("127.0.0.1")}))
OFFICE = Trust(frozenset({"https://mcp.office:443"}), frozenset({ip_address("10.1.2.3")}))

FORBIDDEN = (
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0"),  # noqa: S104 - looked at only
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "224.0.0.1", "255.255.255.255", "198.18.0.1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "::7f00:1", "2001:db8::1"),
    *("localhost", "1.1.1", "", "2130706433"),
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_not_connected_to(address: str) -> None:
    assert not NOBODY.allows(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "8.8.8.8"])
def test_a_public_address_is(address: str) -> None:
    assert NOBODY.allows(address)
    assert HERE.allows(address)


@given(st.ip_addresses())
def test_a_translated_address_is_judged_by_what_it_stands_for(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv4Address):
        assert NOBODY.allows(f"::ffff:{address}") <= NOBODY.allows(str(address))
        assert NOBODY.allows(f"64:ff9b::{address}") <= NOBODY.allows(str(address))
    elif NOBODY.allows(str(address)):
        assert address.is_global


def test_a_private_network_counts_where_the_operators_own_url_is_in_it() -> None:
    assert OFFICE.allows("10.200.0.1")
    assert not OFFICE.allows("192.168.0.1")
    assert not OFFICE.allows("127.0.0.1")
    assert not OFFICE.allows("169.254.169.254")
    assert HERE.allows("127.0.0.2")
    assert not HERE.allows("10.0.0.1")


def test_metadata_addresses_are_asked_only_if_the_operator_wrote_them() -> None:
    near = Trust(frozenset(), frozenset({ip_address("169.254.0.9")}))
    assert not near.allows("169.254.169.254")
    assert not near.allows("169.254.0.8")
    assert near.allows("169.254.0.9")
    assert not Trust(frozenset(), frozenset({ip_address("100.64.0.1")})).allows("100.100.100.200")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com/token",
            "ftp://example.com",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "//example.com",
        ),
        *("https://", "https://user:pw@example.com", "https://exa mple.com", "https://example.com\r\nHost: x", ""),
        *("https://[fe80::1%25eth0]/", "http://127.0.0.1.example.com/", "https://example.com:99999/"),
    ],
)
def test_a_url_that_is_not_plainly_https_is_refused(url: str) -> None:
    assert url_refused(url, NOBODY)
    assert url_refused(url, HERE)


def test_http_is_for_this_machine_and_for_what_the_operator_wrote() -> None:
    assert url_refused("http://127.0.0.1:9000/token", NOBODY)
    assert url_refused("http://127.0.0.1:9000/token", OFFICE)
    assert url_refused("http://127.0.0.1:9000/token", HERE) == ""
    assert url_refused("http://localhost:9000/token", HERE) == ""
    plain = Trust(frozenset({"http://10.0.0.5:80"}), frozenset({ip_address("10.0.0.5")}))
    assert url_refused("http://10.0.0.5/token", plain) == ""
    assert url_refused("http://10.0.0.5:9000/token", plain)
    assert url_refused("https://example.com/token", NOBODY) == ""


@given(st.text())
def test_no_text_makes_the_check_fail(text: str) -> None:
    url_refused(text, HERE)
    origin_of(text)
    NOBODY.allows(text)
