"""A webhook's body in the form that may be stored (promise 7): Nango's own bodies without possible credentials.

Decided before a body is written: a database keeps what was once written in its log and in dead rows. A forwarded body
follows its environment's policy (`payloads.reduced`) and is not scrubbed here. A body is parsed once at most, by web
when it is stored and by a worker when it is read.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from app.domain.event import MAX_NAME, EventType, Notice, read, read_parsed, unreadable
from app.domain.json_values import MAX_DEPTH, STRICT, nested_deeper, read_with_repeats
from app.domain.payload_policy import NOTHING, PayloadPolicy, reduced
from app.domain.scrub import MAX_LENGTH, hide, replace_unstorable, scrub, scrub_object, scrub_value
from app.domain.secret_names import WORDS_ABROAD
from app.domain.tags import utf16_length
from app.domain.token_detection import KNOWN_BEGINNING, is_name

AT_ONCE: Final = 1024  # bytes of a body that may be scrubbed on the event loop
MAX_UNREADABLE: Final = 2000  # bytes kept of an unreadable body that says it is Nango's own
MAX_NAMES: Final = 4000  # characters; a failed sync names all its models in one text
MAX_TYPE: Final = 100  # characters of an error's type

# Nango's own serialization with known members and plain values only: most webhooks match, and need no parsing. The
# order and number of members do not matter, as none can hold a credential.
_TEXT: Final = rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"'
_ID: Final = rb'"[^"\\\x00-\x1f]{1,255}+"'
_KNOWN: Final = b"(?!%b)" % KNOWN_BEGINNING.encode()  # no plain value begins like this
_SHORT: Final = rb'"%b[A-Za-z0-9_.-]{0,19}+"' % _KNOWN
_WORD: Final = rb'(?:"%b[A-Za-z_.\x80-\xbf\xc3-\xdf-]{0,100}+"|%b)' % (
    _KNOWN,
    _SHORT,
)  # outside of the ranges of other signs for : and =
_TIME: Final = rb'"[0-9T:.Z+-]{0,35}+"'
_UUID: Final = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# A member of a checkpoint whose name is no credential's.
_CURSOR: Final = (
    rb'"(?![A-Za-z_]{0,40}(?i:auth|bearer|cert|code|cookie|credential|hmac|jwt|key|nonce|otp|pass|pat|pem|pin|pwd|raw|salt'
    rb'|secret|seed|sess|sid|sig|string|token|verif|xsrf|csrf|mnemonic|assert|%b))[A-Za-z_]{1,40}+": ?'
    rb"(?:null|true|false|[0-9]{1,15}+|%b|%b)" % ("|".join(WORDS_ABROAD).encode(), _SHORT, _TIME)
)
_PLAIN: Final = re.compile(
    rb'\{(?:"(?:'
    rb'(?:connectionId|providerConfigKey)": ?%(ID)b'
    rb'|(?:authMode|environment|from|model|operation|provider|syncName|syncType|syncVariant|type)": ?%(WORD)b'
    rb'|success": ?true'
    rb'|tags": ?(?:null|\{(?:%(TEXT)b: ?%(TEXT)b,? ?)*+\})'
    rb'|(?:modifiedAfter|queryTimeStamp)": ?%(TIME)b'
    rb'|responseResults": ?\{(?:"(?:added|deleted|unchanged|updated)": ?[0-9]{1,15}+,? ?)*+\}'
    rb'|checkpoints": ?(?:null|\{(?:"(?:from|to)": ?(?:null|\{(?:%(CURSOR)b,? ?)*+\}),? ?)*+\})'
    rb'|payload": ?\{(?:"(?:id": ?"|statusUrl": ?"/action/)%(UUID)b",? ?)*+\}'
    rb"),? ?)*+\}" % {b"ID": _ID, b"WORD": _WORD, b"TEXT": _TEXT, b"TIME": _TIME, b"CURSOR": _CURSOR, b"UUID": _UUID}
)
_NO_OBJECT: Final = re.compile(rb'[ \t\r\n]*+[\["]')
_FORWARD_ENDS: Final = b',"type":"forward"}'  # Nango sorts it last; a string cannot contain these quotes
_OWN_TYPES: Final = frozenset({"auth", "sync", "async_action"})
_OWN_WORDS: Final = (b'"nango"', b'"auth"', b'"sync"', b'"async_action"')
_OWN_TYPE: Final = rb'"type"[ \t\r\n]*+:[ \t\r\n]*+"(?:auth|sync|async_action)"'
_SAYS_OWN: Final = re.compile(  # a nested type may be a provider's
    rb'"from"[ \t\r\n]*+:[ \t\r\n]*+"nango"|\A[ \t\r\n]*+\{[ \t\r\n]*+%b|%b[ \t\r\n]*+\}[ \t\r\n]*+\Z'
    % (_OWN_TYPE, _OWN_TYPE)
)

_FULL: Final = PayloadPolicy.FULL  # a constant, since an enumeration's member is looked up each time
_ReadNotice = Callable[[], Notice]  # `read` of a body that was parsed already

_IDS: Final = ("connectionId", "providerConfigKey")
_NAMES: Final = {
    **dict.fromkeys(("authMode", "environment", "from", "operation", "provider", "type"), MAX_NAME),
    **dict.fromkeys(("model", "syncName", "syncType", "syncVariant"), MAX_NAMES),
    **dict.fromkeys(("failedAt", "modifiedAfter", "queryTimeStamp", "startedAt"), MAX_NAME),
}
KNOWN: Final = frozenset({*_IDS, *_NAMES, "endUser", "error", "success", "tags"})
_END_USER: Final = frozenset({"endUserEmail", "endUserId", "organizationId", "tags"})
_ERROR: Final = {"type": MAX_TYPE, "description": MAX_LENGTH, "message": MAX_LENGTH}


def stored(body: bytes, policy: PayloadPolicy) -> bytes:
    """The stored form of a webhook's body in an environment with this policy; mostly the same bytes.

    The delivery is identified by the fingerprint of the original, which is stored separately.
    """
    if policy is _FULL:
        return at_rest(body)
    rests = rests_as_it_came(body)
    try:  # repeats make reading slower, and matter to scrubbing alone
        came, repeated = (STRICT.decode(body.decode()), False) if rests else read_with_repeats(body.decode())
    except (ValueError, RecursionError):
        return NOTHING
    shape = reduced(came, read_parsed(body, came).type, policy)
    if shape is not None:
        return shape
    return body if rests else _scrubbed(body, came, repeated=repeated)[0]


def stored_at_once(body: bytes, policy: PayloadPolicy) -> bytes | None:
    """The stored form where it takes microseconds; None for a large body that has to be scrubbed."""
    if policy is _FULL and rests_as_it_came(body):
        return body
    if len(body) > AT_ONCE:
        return None
    return _parsed_and_scrubbed(body)[0] if policy is _FULL else stored(body, policy)


def at_rest(body: bytes) -> bytes:
    """A body of Nango's own (auth, sync, async_action, and others `from` it) without credentials; others unchanged.

    Ids, tags, end user and names of things are kept. Of an error its type and text are kept, scrubbed: it may embed any
    answer of the provider (Nango contract: When auth webhooks are sent). All else is scrubbed by names and by likeness
    to a token. `read` gives the same notice as before.
    """
    return body if rests_as_it_came(body) else _parsed_and_scrubbed(body)[0]


def read_at_rest(body: bytes) -> tuple[bytes, Notice]:
    """The stored form, and the notice that `read` gives for it."""
    if rests_as_it_came(body):
        return body, read(body)
    clean, notice = _parsed_and_scrubbed(body)
    return clean, notice()


def _parsed_and_scrubbed(body: bytes) -> tuple[bytes, _ReadNotice]:
    """Stored form and notice of a body that `rests_as_it_came` does not recognize."""
    try:
        came, repeated = read_with_repeats(body.decode())
    except (ValueError, RecursionError) as problem:
        return _unreadable(body, partial(unreadable, problem))
    return _scrubbed(body, came, repeated=repeated)


def _scrubbed(body: bytes, came: object, *, repeated: bool) -> tuple[bytes, _ReadNotice]:
    """Stored form and notice. came: the parsed body. repeated: it has a key twice, so that its bytes hold more than
    `came`.
    """
    as_it_came = partial(read_parsed, body, came)
    if not isinstance(came, dict) or not is_own(came.get("from"), came.get("type")):
        return body, as_it_came
    if nested_deeper(came, MAX_DEPTH):  # `read` rejects it
        return _unreadable(body, as_it_came)
    clean = _clean(came)
    if not repeated and (clean == came or _same(clean, came)):
        return body, as_it_came
    return _written(clean), partial(read_parsed, body, clean)


def _unreadable(body: bytes, as_it_came: _ReadNotice) -> tuple[bytes, _ReadNotice]:
    clean, notice = unreadable_at_rest(body)
    return clean, as_it_came if notice is None else lambda: notice


def rests_as_it_came(body: bytes) -> bool:
    """Whether a regular expression shows that there is nothing to scrub: a plain, forwarded or foreign body."""
    if _PLAIN.fullmatch(body) or body.endswith(_FORWARD_ENDS) or _NO_OBJECT.match(body):
        return True
    return b"\\u" not in body and not any(word in body for word in _OWN_WORDS)


def is_own(sender: object, kind: object) -> bool:
    """Whether a body with this `from` and this `type` is Nango's own, and not a provider's."""
    return (isinstance(kind, str) and kind in _OWN_TYPES) or (sender == "nango" and kind != "forward")


def unreadable_at_rest(body: bytes) -> tuple[bytes, Notice | None]:
    """The beginning, hidden, of an unreadable body that says it is Nango's own. It stays unreadable.

    With the notice that `read` gives for it; None where the body stays unchanged.
    """
    if not _SAYS_OWN.search(body):
        return body, None
    clean = hide(body[:MAX_UNREADABLE].decode("latin-1")).encode("latin-1", "replace")
    if clean == body:
        return body, None
    notice = read(clean)
    return (clean, notice) if notice.type is EventType.NANGO_UNHANDLED else (NOTHING, read(NOTHING))


def _clean(came: Mapping[str, object]) -> dict[str, object]:
    rest = scrub_object({name: value for name, value in came.items() if name not in KNOWN})
    known = {name: _known(name, value) for name, value in came.items() if name in KNOWN}
    return dict(sorted((rest | known).items()))


def _known(name: str, value: object) -> object:
    """The kept value of a member that Nango is known to send."""
    if isinstance(value, dict) and name == "error":
        texts = {member: value.get(member) for member in _ERROR}
        return {member: scrub(text, limit=_ERROR[member]) for member, text in texts.items() if isinstance(text, str)}
    if isinstance(value, dict) and name == "endUser":
        rest = scrub_object({member: inner for member, inner in value.items() if member not in _END_USER})
        return rest | {member: _owner(member, inner) for member, inner in value.items() if member in _END_USER}
    if name == "tags":
        return _owner(name, value)
    if not isinstance(value, str):
        return _unless_secret(value)
    if name == "error":
        return scrub(value)
    if name in _IDS:
        return value if utf16_length(value) <= MAX_NAME else None
    if name in _NAMES and len(value) <= _NAMES[name]:
        return value if is_name(value) else scrub(value)
    return _unless_secret(value)


def _owner(name: str, value: object) -> object:
    """Tags, or a member of the end user: texts that name the owner of a connection."""
    if name == "tags" and isinstance(value, dict):
        return {key: text if isinstance(text, str) else _unless_secret(text) for key, text in value.items()}
    return value if name != "tags" and isinstance(value, str) else _unless_secret(value)


def _unless_secret(value: object) -> object:
    """A value of an unexpected type, which `read` ignores; null where a part of it had to be hidden."""
    return value if _same(scrub_value(value), value) else None


def _same(clean: object, came: object) -> bool:
    """Whether nothing was hidden. Replacing characters that no database stores is not hiding."""
    if isinstance(came, str):
        return clean in (came, replace_unstorable(came))
    if isinstance(came, list):
        return isinstance(clean, list) and all(map(_same, clean, came))
    if isinstance(came, dict):
        if not isinstance(clean, dict) or len(clean) < len(came):  # two names may become one
            return False
        return all(_same(clean.get(name, clean.get(replace_unstorable(name))), inner) for name, inner in came.items())
    return clean == came


def _written(value: Mapping[str, object]) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON has in its escaped form only
        return json.dumps(value, separators=(",", ":")).encode()
