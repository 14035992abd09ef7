from itertools import product
from uuid import UUID

import pytest

from app.domain.linking import (
    Drift,
    EndUser,
    Keep,
    Open,
    Owner,
    OwnerChangePolicy,
    Person,
    TagKeys,
    Unlinked,
    UnlinkedReason,
    decide,
    read_claim,
    resolve,
)

KEYS = TagKeys()
A, B, X, Y = (UUID(int=number) for number in range(1, 5))  # users A and B, organizations X and Y
ANA, BO = Person(A, "ana", X), Person(B, "bo", Y)
EMAIL = {"end_user_email": "ana@x.example"}


def claim(tags=None, end_user=None, keys=KEYS):
    return read_claim(tags or {}, end_user, keys)


def found(tags, *, user=None, with_email=(), organization=None):
    return resolve(claim(tags), user=user, with_email=with_email, organization_id=organization)


@pytest.mark.parametrize(
    ("tags", "end_user", "user", "email", "organization", "linked_by"),
    [
        ({"end_user_id": "u", "organization_id": "o"}, None, "u", None, "o", "end_user_id"),
        ({"end_user_id": "u", "end_user_email": "e"}, None, "u", "e", None, "end_user_id"),
        ({"end_user_email": "e"}, None, None, "e", None, "end_user_email"),
        ({"organization_id": "o"}, None, None, None, "o", "organization_id"),
        ({}, EndUser(id="u", organization_id="o"), "u", None, "o", "endUser.endUserId"),
        ({}, EndUser(email="e"), None, "e", None, "endUser.endUserEmail"),
        ({}, EndUser(organization_id="o"), None, None, "o", "endUser.organizationId"),
        ({"end_user_id": "u"}, EndUser(id="l", email="l", organization_id="o"), "u", None, "o", "end_user_id"),
        ({"organization_id": "o"}, EndUser(id="l", organization_id="k"), "l", None, "o", "endUser.endUserId"),
    ],
)
def test_tags_win_over_the_end_user_for_user_and_organization_each(
    *, tags, end_user, user, email, organization, linked_by
):
    named = claim(tags, end_user)
    assert (named.user_id, named.email, named.organization_id) == (user, email, organization)
    assert named.linked_by == linked_by


@pytest.mark.parametrize("tags", [{}, {"plan": "pro"}, {"end_user_display_name": "Ana"}, {"end_user_id": ""}])
def test_nothing_is_claimed_where_no_owner_is_named(tags):
    assert claim(tags) is None
    assert claim(tags, EndUser()) is None


def test_other_keys_may_name_the_owner():
    named = claim({"account": "u", "end_user_id": "x"}, keys=TagKeys(user_id="account"))
    assert (named.user_id, named.linked_by) == ("u", "account")


@pytest.mark.parametrize(
    ("tags", "known", "result"),
    [
        ({"end_user_id": "ana"}, {"user": ANA}, Owner(A, None)),
        ({"end_user_id": "ana", "organization_id": "x"}, {"user": ANA, "organization": X}, Owner(A, X)),
        ({"organization_id": "x"}, {"organization": X}, Owner(None, X)),
        ({"end_user_id": "ana"}, {}, Unlinked(UnlinkedReason.UNKNOWN_USER)),
        ({"end_user_id": "ana", "organization_id": "x"}, {"organization": X}, Unlinked(UnlinkedReason.UNKNOWN_USER)),
        (
            {"end_user_id": "ana", "organization_id": "x"},
            {"user": ANA},
            Unlinked(UnlinkedReason.UNKNOWN_ORGANIZATION),
        ),
        ({"end_user_id": "ana", **EMAIL}, {"with_email": [BO]}, Unlinked(UnlinkedReason.UNKNOWN_USER)),
        (EMAIL, {"with_email": [ANA]}, Owner(A, None)),
        (EMAIL, {"with_email": [ANA, BO]}, Unlinked(UnlinkedReason.AMBIGUOUS_EMAIL)),
        (EMAIL, {}, Unlinked(UnlinkedReason.UNKNOWN_EMAIL)),
        ({**EMAIL, "organization_id": "x"}, {"with_email": [ANA, BO], "organization": X}, Owner(A, X)),
        ({**EMAIL, "organization_id": "x"}, {"with_email": [BO], "organization": X}, Owner(None, X)),
        ({**EMAIL, "organization_id": "x"}, {"with_email": [BO]}, Unlinked(UnlinkedReason.UNKNOWN_ORGANIZATION)),
    ],
)
def test_a_claim_becomes_an_owner_only_through_the_directory(tags, known, result):
    assert found(tags, **known) == result


def test_an_email_never_reaches_into_another_organization():
    for people in ([BO], [BO, BO], []):
        owner = found({**EMAIL, "organization_id": "x"}, with_email=people, organization=X)
        assert owner == Owner(None, X)


WHOLE, OTHER, HALF = Owner(A, X), Owner(B, Y), Owner(A, None)
REASSIGN, HOLD = OwnerChangePolicy


@pytest.mark.parametrize(
    ("current", "new", "empty", "policy", "outcome"),
    [
        (None, None, True, REASSIGN, Unlinked(UnlinkedReason.NO_OWNER_TAGS)),
        (None, WHOLE, False, REASSIGN, Open(WHOLE)),
        (None, WHOLE, False, HOLD, Open(WHOLE)),
        (WHOLE, None, True, REASSIGN, Keep(Drift.TAGS_WIPED)),
        (WHOLE, None, False, REASSIGN, Keep(Drift.OWNER_TAG_MISSING)),
        (WHOLE, Unlinked(UnlinkedReason.UNKNOWN_USER), False, REASSIGN, Keep(Drift.OWNER_UNRESOLVED)),
        (WHOLE, WHOLE, False, REASSIGN, Keep()),
        (WHOLE, HALF, False, REASSIGN, Keep(Drift.OWNER_TAG_MISSING)),
        (WHOLE, Owner(None, X), False, REASSIGN, Keep(Drift.OWNER_TAG_MISSING)),
        (WHOLE, OTHER, False, REASSIGN, Open(OTHER)),
        (WHOLE, OTHER, False, HOLD, Keep(Drift.OWNER_CHANGE_HELD)),
        (WHOLE, Owner(B, X), False, HOLD, Keep(Drift.OWNER_CHANGE_HELD)),
        (HALF, WHOLE, False, HOLD, Open(WHOLE)),
        (HALF, WHOLE, False, REASSIGN, Open(WHOLE)),
        (HALF, Owner(None, X), False, HOLD, Keep(Drift.OWNER_CHANGE_HELD)),
    ],
)
def test_the_change_of_a_link(current, new, empty, policy, outcome):
    assert decide(current=current, named=new, tags_empty=empty, policy=policy) == outcome


def test_no_lack_of_an_owner_ever_unlinks():
    lacking = [None, *map(Unlinked, UnlinkedReason)]
    for new, empty, policy in product(lacking, (True, False), OwnerChangePolicy):
        outcome = decide(current=WHOLE, named=new, tags_empty=empty, policy=policy)
        assert isinstance(outcome, Keep)
        assert outcome.drift is not None
