"""Texts of others are escaped by the filters of the console that make markup of them."""

from app.web.console.rendering import breakable, coded, moment

TIME = "2026-12-01T00:40:32.123456+00:00"


def test_sentences_are_escaped_with_their_code_and_times():
    shown = f'<time datetime="{TIME}">2026-12-01 00:40:32 UTC</time>'
    assert coded(f"<b> since {TIME}: `<i>`") == f"&lt;b&gt; since {shown}: <code>&lt;i&gt;</code>"
    assert coded(f"`{TIME}`") == f"<code>{TIME}</code>", "what is set as code stays as it is"


def test_names_are_escaped_and_broken_behind_their_marks():
    assert breakable("<b>.crm/x_y") == "&lt;b&gt;.<wbr>crm/<wbr>x_<wbr>y"


def test_times_are_escaped_and_shown_as_exactly_as_they_are_known():
    assert moment("2026-12-01T00:40+00:00") == '<time datetime="2026-12-01T00:40+00:00">2026-12-01 00:40 UTC</time>'
    assert "<b" not in moment('<b title="x">')
    assert moment(None) == "\u2013"
