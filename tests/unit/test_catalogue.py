"""The catalogue of providers: each line has its source and date, and says only what that source says."""

from datetime import date, timedelta

import pytest

from app.config.provider_catalogue import shipped_catalogue
from app.domain.refreshing.catalogue import Catalogue, Renewal, read_catalogue

DAY = timedelta(days=1)
LINE = '[[provider]]\nnames = ["a"]\nsource = "https://provider.example/docs"\nread = 2026-11-30\n'


def test_the_catalogue_that_is_shipped_has_at_least_twenty_lines_each_with_source_and_date():
    lines = shipped_catalogue().lines
    assert len(lines) >= 20
    for line in lines:
        assert line.source.startswith("https://"), line.names
        assert date(2026, 1, 1) <= line.read <= date(2100, 1, 1), line.names
        said = (line.access_life, line.refresh_life, line.idle_limit, line.rotates, line.reuse)
        assert any(fact is not None for fact in said) or line.renews != Renewal.DUE or line.nango_margin < DAY


def test_lives_and_limits_are_plausible():
    for line in shipped_catalogue().lines:
        for life in (line.access_life, line.refresh_life, line.idle_limit):
            assert life is None or timedelta(minutes=1) <= life <= 400 * DAY, line.names
        assert timedelta(0) < line.nango_margin <= timedelta(minutes=15)


@pytest.mark.parametrize(
    ("provider", "facts"),
    [
        ("salesforce", {"idle_limit": 30 * DAY, "rotates": True, "renews": Renewal.INTROSPECTED}),
        ("zendesk", {"access_life": timedelta(minutes=30), "refresh_life": 30 * DAY, "rotates": True}),
        ("google-mail", {"idle_limit": 180 * DAY}),
        ("outlook", {"idle_limit": 90 * DAY}),
        ("acrobat-sign", {"idle_limit": 60 * DAY}),
        ("facebook", {"renews": Renewal.FORCED}),
        ("threads", {"renews": Renewal.FORCED}),
        ("exact-online", {"nango_margin": timedelta(seconds=30)}),
        ("toast", {"nango_margin": timedelta(seconds=60)}),
        ("notion", {"renews": Renewal.NEVER}),
        ("netsuite", {"refresh_life": 7 * DAY, "rotates": False}),
    ],
)
def test_what_is_documented_of_a_provider_is_found_by_its_name_at_nango(provider: str, facts: dict):
    line = shipped_catalogue().of(provider)
    assert {name: getattr(line, name) for name in facts} == facts


@pytest.mark.parametrize("provider", [None, "", "a provider of the future", "Salesforce"])
def test_nothing_is_known_of_other_providers(provider: str | None):
    assert shipped_catalogue().of(provider) is None


def test_an_empty_catalogue_knows_nothing():
    assert Catalogue().of("salesforce") is None
    assert read_catalogue("").lines == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LINE + LINE, "a: stands in two lines"),
        (LINE + 'acess_life = "1h"\n', "a: unknown member acess_life"),
        (LINE.replace("https", "http"), "a: needs names, the URL of its source"),
        (LINE.replace("read = 2026-11-30\n", ""), "the day when that was read"),
        (LINE.replace('names = ["a"]\n', ""), "a line without names: needs"),
        (LINE + 'access_life = "1 hour"\n', "^a: "),
        (LINE + 'renews = "sometimes"\n', "^a: "),
    ],
)
def test_a_faulty_line_is_refused_by_name(text: str, fault: str):
    with pytest.raises(ValueError, match=fault):
        read_catalogue(text)
