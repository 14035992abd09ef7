"""A team's own broker: one server of Redis or AMQP, and nothing else that kombu would make of a URL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.url import parse_url

from app.domain.addresses import read_networks
from app.domain.broker_urls import check_broker_url
from app.errors import InvalidInput


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://redis.example", "redis://redis.example:6379/0"),
        ("redis://redis.example:6380/3", "redis://redis.example:6380/3"),
        ("rediss://user:p%3Fw@redis.example/01", "rediss://redis.example:6379/1"),
        ("amqp://crm:secret@mq.example//", "amqp://mq.example:5672//"),
        ("amqps://crm:secret@mq.example/crm%2Fprod", "amqps://mq.example:5671/crm/prod"),
        ("amqps://mq.example", "amqps://mq.example:5671//"),
        ("redis://[2606:4700::1111]:6379/1", "redis://[2606:4700::1111]:6379/1"),
    ],
)
def test_redis_and_amqp_are_taken_and_shown_without_credentials(url, place):
    assert str(check_broker_url(url)) == place


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "visible ASCII"),
        ("filesystem:///etc", "starts with redis://"),
        ("filesystem://", "starts with redis://"),
        ("sqla+sqlite:///waylink.db", "starts with redis://"),
        ("sqlalchemy+postgresql://db/waylink", "starts with redis://"),
        ("memory://", "starts with redis://"),
        ("redis+socket:///run/valkey.sock", "starts with redis://"),
        ("sentinel://redis.example:26379", "starts with redis://"),
        ("pyamqp://mq.example", "starts with redis://"),
        ("kombu.transport.filesystem:Transport://x", "starts with redis://"),
        ("REDIS://redis.example", "starts with redis://"),
        ("redis:redis.example", "starts with redis://"),
        ("redis://a.example;redis://b.example", "one server"),
        ("redis://a.example/1?hostname=169.254.169.254", "no parameters"),
        ("redis://a.example/1?transport=filesystem", "no parameters"),
        ("redis://a.example/1?credential_provider=os.system", "no parameters"),
        ("rediss://a.example/1?ssl_cert_reqs=none", "no parameters"),
        ("redis://a.example/1#x", "no parameters"),
        ("redis://", "names no host"),
        ("redis:///1", "names no host"),
        ("redis://user:pass@/1", "names no host"),
        ("redis://socket%3A%2F%2F%2Frun%2Fvalkey.sock", "names no host"),
        ("redis://a.example:x/1", "cannot be read"),
        ("redis://a.example:25/1", "port 25"),
        ("redis://a.example/one", "number of a database"),
        ("redis://a.example/1/2", "number of a database"),
        ("redis://a.example/-1", "number of a database"),
        ("redis://127.0.0.1/1", r"refused \(loopback\)"),
        ("amqp://169.254.169.254", r"refused \(metadata\)"),
        ("amqp://[::1]", r"refused \(loopback\)"),
        ("redis://a b.example", "visible ASCII"),
    ],
)
def test_whatever_else_kombu_would_take_is_refused_with_the_reason(url, problem):
    with pytest.raises(InvalidInput, match=problem):
        check_broker_url(url)


def test_a_refusal_holds_no_password():
    for url in (
        "redis://u:hunter2@",
        "redis://u:hunter2@a.example:25",
        "x://u:hunter2@a",
        "redis://u:hunter2?@a.example",
    ):
        with pytest.raises(InvalidInput) as refused:
            check_broker_url(url)
        assert "hunter2" not in str(refused.value)


def test_an_operators_range_opens_a_broker_of_ones_own_network():
    assert check_broker_url("redis://127.0.0.1:6379/1", read_networks("127.0.0.0/8")).host == "127.0.0.1"


@given(
    st.sampled_from(["redis", "rediss", "amqp", "amqps"]),
    st.from_regex(r"[!-~]{0,40}", fullmatch=True),
)
def test_kombu_reads_the_host_that_was_checked(scheme, rest):
    url = f"{scheme}://{rest}"
    try:
        place = check_broker_url(url)
    except InvalidInput:
        return
    read = parse_url(url)
    assert (read["transport"], (read["hostname"] or "").lower()) == (scheme, place.host)
    assert set(read) == {"transport", "hostname", "port", "userid", "password", "virtual_host"}
