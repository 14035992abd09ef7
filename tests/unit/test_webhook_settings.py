"""Findings about an environment's webhook settings at Nango."""

import pytest

from app.domain.webhook_settings import WebhookSettings, remarks

ON = {"on_auth_creation": True, "on_auth_refresh_error": True, "on_connection_deletion": True}
HERE, PATH = "https://waylink.example/webhooks/nango", "/webhooks/nango"


def said(primary=HERE, secondary=None, *, environment="default", path=PATH, origin=None, both_urls=False, **switches):
    settings = WebhookSettings(primary_url=primary, secondary_url=secondary, switches={**ON, **switches})
    found = remarks(settings, environment=environment, path=path, origin=origin, both_urls=both_urls)
    return [(remark.bad, remark.detail) for remark in found]


@pytest.mark.parametrize(
    "urls",
    [(HERE, None), (f"{HERE}/", None), (None, HERE), ("https://other.example/hook", HERE), (" " + HERE, None)],
)
@pytest.mark.parametrize("origin", [None, "https://waylink.example", "https://Waylink.example/"])
def test_nothing_is_said_where_all_is_well(urls, origin):
    assert said(*urls, origin=origin) == []


@pytest.mark.parametrize(
    "urls",
    [
        (None, None),
        ("https://waylink.example/webhooks/nango/prod", None),
        ("https://waylink.example/", "https://waylink.example/webhooks"),
        ("https://[broken/webhooks/nango", None),
    ],
)
def test_urls_that_lead_elsewhere_lose_webhooks(urls):
    [(bad, detail)] = said(*urls)
    assert (bad, PATH in detail) == (True, True)


def test_another_host_is_seen_where_our_own_is_known():
    assert said("https://old.example/webhooks/nango") == []
    [(bad, detail)] = said("https://old.example/webhooks/nango", origin="https://waylink.example")
    assert (bad, "https://waylink.example/webhooks/nango" in detail, "https://old.example" in detail) == (True,) * 3


def test_a_path_before_ours_is_part_of_the_origin():
    url = "https://proxy.example/waylink/webhooks/nango/prod"
    assert said(url, path="/webhooks/nango/prod", origin="https://proxy.example/waylink") == []


def test_a_url_is_shown_without_what_may_be_a_secret():
    [(_, detail)] = said("https://user:hunter2@old.example:8443/hook?key=hunter3")
    assert "https://old.example:8443/hook" in detail
    assert "hunter" not in detail


BOTH_URLS = pytest.mark.parametrize(
    ("environment", "named"),
    [
        ("default", "WAYLINK_NANGO_BOTH_URLS=true or both_urls = true in [environments.default]"),
        ("prod", " both_urls = true in [environments.prod]"),
    ],
)


@BOTH_URLS
def test_both_urls_here_are_worth_a_note_that_names_the_setting(environment, named):
    [(bad, detail)] = said(HERE, HERE, environment=environment)
    assert bad is False
    assert detail.startswith("both webhook URLs lead here: Nango sends everything twice")
    assert f"{named} says so" in detail
    assert ("WAYLINK" in detail) is (environment == "default")


def test_both_urls_here_are_all_well_where_the_setting_says_so():
    assert said(HERE, HERE, both_urls=True) == []


@BOTH_URLS
@pytest.mark.parametrize("urls", [(HERE, None), (None, HERE), (HERE, "https://other.example/hook")])
def test_a_setting_that_says_both_where_one_url_leads_here_is_reported(urls, environment, named):
    [(bad, detail)] = said(*urls, environment=environment, both_urls=True)
    assert (bad, detail.startswith("one webhook URL leads here"), named in detail) == (False, True, True)


@pytest.mark.parametrize(
    ("switch", "bad"), [("on_auth_creation", True), ("on_auth_refresh_error", True), ("on_connection_deletion", False)]
)
def test_a_switch_that_is_off_is_reported_by_name(switch, bad):
    [(found, detail)] = said(**{switch: False})
    assert (found, detail.startswith(f"{switch} is off")) == (bad, True)


def test_an_older_nango_does_not_show_the_switch_of_deletions():
    settings = WebhookSettings(primary_url=HERE, secondary_url=None, switches={})
    assert [
        "deletions may be found" in remark.detail
        for remark in remarks(settings, environment="default", path=PATH, origin=None, both_urls=False)
    ] == [True]


def test_the_signing_key_is_in_no_repr():
    assert "secret" not in repr(
        WebhookSettings(primary_url=None, secondary_url=None, switches={}, signing_key="secret")
    )
