"""Explanations of links name the cause, and what repairs it."""

import re
import shlex

import click
import pytest

from app.cli.main import waylink
from app.domain.link_explanations import LinkCause, LinkFacts, Newest, explain_link
from app.domain.linking import Claim, DirectoryPolicy, Drift, TagKeys, UnlinkedReason

DANA = Claim(user_id="usr_1042", organization_id="org_77")


def explained(**given):
    known = {
        "id": "con_1",
        "status": "active",
        "owner": None,
        "user_linked": False,
        "linked_by": None,
        "unlinked_reason": None,
        "drift": None,
        "tags_empty": False,
        "claim": DANA,
        "is_known": False,
        "with_email": 0,
        "newest": None,
        "keys": TagKeys(),
        "directory": DirectoryPolicy.REQUIRE,
    }
    return explain_link(LinkFacts(**known | given))


CASES = [
    ({"status": "deleted", "unlinked_reason": None}, LinkCause.DELETED, "Nango no longer has", []),
    ({"newest": None}, LinkCause.NO_AUTH_EVENT, "No auth event of it is stored", ["reconcile", "check"]),
    (
        {"newest": Newest("evt_1", "received", None)},
        LinkCause.WAITING_FOR_NANGO,
        "evt_1 waits until Nango shows",
        ["events show"],
    ),
    (
        {"newest": Newest("evt_1", "failed", "not_confirmed")},
        LinkCause.REFUSED,
        "failed (not_confirmed)",
        ["events show", "events retry"],
    ),
    (
        {"newest": Newest("evt_1", "processed", None)},
        LinkCause.NO_AUTH_EVENT,
        "says nothing of an owner",
        ["reconcile"],
    ),
    (
        {"unlinked_reason": "no_owner_tags", "tags_empty": True, "claim": Claim()},
        "no_owner_tags",
        "It has no tags: `end_user_id`, `end_user_email` or `organization_id` would.",
        ["connections tags add"],
    ),
    (
        {"unlinked_reason": "no_owner_tags", "claim": Claim()},
        "no_owner_tags",
        "None of its tags names an owner",
        ["connections tags add"],
    ),
    (
        {"unlinked_reason": "unknown_user"},
        "unknown_user",
        "name the user `usr_1042`, which is not known here",
        ["users add", "connections tags add"],
    ),
    (
        {"unlinked_reason": "unknown_organization"},
        "unknown_organization",
        "name the organization `org_77`",
        ["orgs add", "connections tags add"],
    ),
    (
        {"unlinked_reason": "unknown_email", "claim": Claim(email="dana@acme.example")},
        "unknown_email",
        "by the e-mail `dana@acme.example`",
        ["users add", "connections tags add"],
    ),
    ({"unlinked_reason": "unknown_user", "is_known": True}, LinkCause.LINKED_SOON, "is known by now", ["relink"]),
    (
        {"unlinked_reason": "ambiguous_email", "claim": Claim(email="a@b.example"), "with_email": 3},
        "ambiguous_email",
        "3 users have the e-mail",
        ["connections tags add"],
    ),
    ({"unlinked_reason": "ambiguous_user"}, "ambiguous_user", "named several owners", ["tags add"]),
    ({"unlinked_reason": "ambiguous_organization"}, "ambiguous_organization", "named several", ["tags add"]),
    ({"unlinked_reason": "superseded"}, "superseded", "has a newer connection", ["connections show"]),
    ({"unlinked_reason": "by_operator"}, "by_operator", "An operator closed its link", ["relink"]),
    (
        {"unlinked_reason": "unknown_user", "directory": DirectoryPolicy.SQL},
        "unknown_user",
        "in the application's database",
        ["tags add"],
    ),
    (
        {"owner": "the user `usr_1042`", "user_linked": True, "linked_by": "end_user_id"},
        LinkCause.LINKED,
        "It is linked to the user `usr_1042`, by `end_user_id`.",
        [],
    ),
    (
        {"owner": "the organization `org_77`", "claim": Claim(email="a@b.example", organization_id="org_77")},
        LinkCause.LINKED_TO_ORGANIZATION,
        "never links across organizations",
        ["tags add"],
    ),
    ({"owner": "the user `x`", "drift": "tags_wiped"}, "tags_wiped", "wipes them", ["restore-tags"]),
    ({"owner": "the user `x`", "drift": "owner_tag_missing"}, "owner_tag_missing", "still linked", ["restore-tags"]),
    (
        {"owner": "the user `x`", "drift": "owner_unresolved"},
        "owner_unresolved",
        "`usr_1042`, which is not known",
        ["restore-tags", "users add"],
    ),
    (
        {"owner": "the user `x`", "drift": "owner_change_held"},
        "owner_change_held",
        "leaves that to an operator",
        ["relink", "restore-tags"],
    ),
]


@pytest.mark.parametrize(("given", "cause", "why", "commands"), CASES, ids=lambda value: str(value)[:40])
def test_each_cause_is_told_with_what_repairs_it(given, cause, why, commands, monkeypatch):
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    found = explained(**given)
    assert (found.cause, found.linked) == (cause, given.get("owner") is not None)
    assert why in found.why
    quoted = re.findall(r"`(waylink [^`]+)`", " ".join(found.repairs))
    assert len(quoted) == len(commands)
    for command, wanted in zip(quoted, commands, strict=True):
        assert wanted in command
        waylink.main(shlex.split(command)[1:], prog_name="waylink", standalone_mode=False)


def test_every_reason_and_every_drift_is_explained():
    told = {cause for _, cause, _, _ in CASES}
    assert told == {*UnlinkedReason, *Drift, *LinkCause}


def test_what_a_tag_holds_is_one_word_of_the_command_that_is_shown():
    found = explained(unlinked_reason="unknown_user", claim=Claim(user_id="x; rm -rf $HOME"))
    [command] = re.findall(r"`(waylink users [^`]+)`", found.repairs[0])
    assert shlex.split(command)[3:] == ["x; rm -rf $HOME"]
