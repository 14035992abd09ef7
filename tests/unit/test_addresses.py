"""Addresses that Waylink connects to for teams: none that only our own network can reach."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.addresses import check_addresses, check_url, is_host, read_networks, refusal
from app.errors import InvalidInput

REFUSED = {
    "loopback": "127.0.0.1 127.255.255.254 ::1",
    "unspecified": "0.0.0.0 0.1.2.3 ::",
    "private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255",
    "link-local": "169.254.0.1 169.254.255.255 fe80::1 febf::1 fe80::1%eth0",
    "carrier-grade NAT": "100.64.0.1 100.127.255.255",
    "unique-local": "fc00::1 fdff:ffff::1",
    "site-local": "fec0::1",
    "multicast": "224.0.0.1 239.255.255.255 ff02::1",
    "broadcast": "255.255.255.255",
    "metadata": "169.254.169.254 169.254.170.2 fd00:ec2::254 100.100.100.200 168.63.129.16 192.0.0.192",
    "IPv4-mapped": "::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:10.0.0.1",
    "IPv4-compatible": "::127.0.0.1 ::8.8.8.8",
    "NAT64": "64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1",
    "6to4": "2002:7f00:1::1 2002:808:808::1",
    "Teredo": "2001::1 2001:0:53aa:64c::1",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
    "reserved": "192.0.0.1 192.88.99.1 198.18.0.1 240.0.0.1 100::1 2001:2::1 5f00::1 4000::1 e000::1",
}
FINE = "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.167.1.1 223.255.255.255 2606:4700::1111"


@pytest.mark.parametrize(
    ("reason", "address"), [(why, address) for why, all_ in REFUSED.items() for address in all_.split()]
)
def test_an_address_of_our_own_network_is_refused_with_the_reason(reason, address):
    assert refusal(ip_address(address)) == reason


@pytest.mark.parametrize("address", FINE.split())
def test_an_address_of_the_internet_is_fine(address):
    assert refusal(ip_address(address)) is None


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(addresses)
def test_what_python_calls_not_global_is_never_fine(address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert refusal(address) is not None


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "::", "64:ff9b::", "::ffff:0:0:0"]))
def test_no_way_of_writing_an_ipv4_address_in_ipv6_gets_past(address, prefix):
    assert refusal(IPv6Address(int(IPv6Address(prefix)) + int(address))) is not None
    assert refusal(IPv6Address((0x2002 << 112) + (int(address) << 80))) is not None


@given(addresses)
def test_an_operators_range_opens_what_it_holds_and_nothing_else(address):
    ranges = read_networks("10.1.0.0/16, fd12::/16 127.0.0.1")
    inside = any(address in network for network in ranges)
    assert inside or refusal(address, ranges) == refusal(address)


def test_an_operator_opens_ranges_but_a_metadata_service_by_its_own_address_only():
    assert refusal(ip_address("10.1.2.3"), read_networks("10.1.0.0/16")) is None
    assert refusal(ip_address("10.2.2.3"), read_networks("10.1.0.0/16")) == "private"
    metadata = ip_address("169.254.169.254")
    assert refusal(metadata, read_networks("169.254.0.0/16")) == "metadata"
    assert refusal(metadata, read_networks("0.0.0.0/0")) == "metadata"
    assert refusal(metadata, read_networks("169.254.169.254/32")) is None


@pytest.mark.parametrize(
    ("address", "allowed", "expected"),
    [
        ("64:ff9b::808:808", "64:ff9b::/96", None),
        ("64:ff9b::7f00:1", "64:ff9b::/96", "loopback"),
        ("64:ff9b::a9fe:a9fe", "64:ff9b::/96", "metadata"),
        ("64:ff9b::7f00:1", "64:ff9b::/96 127.0.0.0/8", None),
        ("2002:a9fe:a9fe::1", "2002::/16", "metadata"),
        ("2002:808:808::1", "2002::/16", None),
        ("::ffff:10.0.0.1", "::/0", "private"),
        ("fe80::1%eth0", "fe80::/10", None),
    ],
)
def test_an_opened_range_that_stands_for_ipv4_opens_no_more_than_ipv4_itself(address, allowed, expected):
    assert refusal(ip_address(address), read_networks(allowed)) == expected


def test_networks_are_read_with_commas_and_blanks_and_a_wrong_one_is_named():
    assert read_networks("10.0.0.0/8, ::1\n192.168.1.1") == (
        ip_network("10.0.0.0/8"),
        ip_network("::1/128"),
        ip_network("192.168.1.1/32"),
    )
    assert read_networks("") == ()
    for wrong in ("10.0.0.1/8", "ten", "10.0.0.0/33"):
        with pytest.raises(ValueError, match=wrong.replace(".", r"\.")):
            read_networks(f"10.0.0.0/8,{wrong}")


def test_a_name_with_good_and_bad_addresses_leaves_the_good_ones_in_order():
    checked = check_addresses(["64:ff9b::808:808", "8.8.8.8", "10.0.0.1", "8.8.4.4", "8.8.8.8"])
    assert checked.allowed == (IPv4Address("8.8.8.8"), IPv4Address("8.8.4.4"))
    assert [reason for _, reason in checked.refused] == ["NAT64", "private"]


def test_the_reason_of_a_refused_name_has_no_address():
    assert check_addresses(["10.9.8.7", "127.0.0.1"]).why == "its address is refused (private, loopback)"
    assert check_addresses([]).why == "the name has no address"


# URLs


@pytest.mark.parametrize(
    ("url", "authority", "port", "target"),
    [
        ("https://hooks.example/in", "hooks.example", 443, "/in"),
        ("http://hooks.example", "hooks.example", 80, "/"),
        ("HTTPS://Hooks.Example:8443/a/b?c=d&e", "hooks.example:8443", 8443, "/a/b?c=d&e"),
        ("https://hooks.example:443/", "hooks.example", 443, "/"),
        ("https://hooks.example./", "hooks.example", 443, "/"),
        ("https://[2606:4700::1111]:8080/x", "[2606:4700::1111]:8080", 8080, "/x"),
        ("https://under_score.example?x", "under_score.example", 443, "/?x"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/"),
    ],
)
def test_a_url_is_read_into_where_it_leads(url, authority, port, target):
    place = check_url(url)
    assert (place.authority, place.port, place.target) == (authority, port, target)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "1 to 2048"),
        ("https://hooks.example/" + "x" * 2048, "1 to 2048"),
        ("ftp://hooks.example/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://hooks.example/", "https://"),
        ("//hooks.example/", "https://"),
        ("hooks.example/in", "https://"),
        ("https://user:pass@hooks.example/", "no user or password"),
        ("https://user@hooks.example/", "no user or password"),
        ("https://@hooks.example/", "no user or password"),
        ("https://hooks.example/#part", "fragment"),
        ("https://hooks.example/#", "fragment"),
        ("https:///in", "names no host"),
        ("https://a..example/", "names no host"),
        ("https://-a.example/", "names no host"),
        ("https://a%2e.example/", "names no host"),
        ('https://a".example/', "names no host"),
        ("https://[fe80::1%25eth0]/", "cannot be read|names no host"),
        ("https://[::1/", "cannot be read"),
        ("https://hooks.example:0/", "port 0"),
        ("https://hooks.example:22/", "port 22"),
        ("https://hooks.example:25/", "port 25"),
        ("https://hooks.example:1023/", "port 1023"),
        ("https://hooks.example:99999/", "cannot be read"),
        ("https://hooks.example:http/", "cannot be read"),
        ("https://hooks.example/ä", "visible ASCII"),
        ("https://höoks.example/", "visible ASCII"),
        ("https://hooks.example/a b", "visible ASCII"),
        ("https://hooks.example/\r\nX: y", "visible ASCII"),
        ("https://hooks.example\\@evil.example/", "visible ASCII"),
        ("http://127.0.0.1/", r"refused \(loopback\)"),
        ("http://[::1]:8080/", r"refused \(loopback\)"),
        ("http://169.254.169.254/latest", r"refused \(metadata\)"),
        ("http://[::ffff:169.254.169.254]/", r"refused \(IPv4-mapped\)"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_reason(url, problem):
    with pytest.raises(InvalidInput, match=problem):
        check_url(url)


@pytest.mark.parametrize("url", ["https://user:hunter2@h.example/", "https://h.example/hunter2 x", "x://hunter2"])
def test_a_refusal_repeats_no_part_of_the_url(url):
    with pytest.raises(InvalidInput) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)


def test_a_literal_address_in_an_operators_range_is_taken():
    assert check_url("http://127.0.0.1:9000/", read_networks("127.0.0.0/8")).port == 9000


@pytest.mark.parametrize("text", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "xn--hks-yoa.example"])
def test_a_host_in_an_odd_form_is_left_to_the_resolver_and_checked_by_its_answer(text):
    assert is_host(text)
    assert check_url(f"http://{text}/").host == text


@given(st.text(max_size=40))
def test_no_text_at_all_makes_reading_fail_otherwise(text):
    for url in (text, f"https://{text}", f"https://h.example:{text}/"):
        with suppress(InvalidInput):
            check_url(url)
