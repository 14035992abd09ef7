"""Names of members and parameters that hold credentials: `refreshToken`, `client-secret`, `X-Api-Key`, `Set-Cookie`."""

import re
from functools import lru_cache
from typing import Final

LONGEST: Final = 100  # characters of a name that are checked

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Anywhere in a name, so that `accesstoken` and `MYSQL_ROOT_PASSWORD` are found as well.
_TELLING: Final = re.compile(
    "token|secret|passw|passphrase|passcode|pwd|credential|authorization|cookie|assertion|signature|bearer|jwt|verifier"
    "|certificate|mnemonic|keystore|csrf|xsrf|sessionid|sessid|connectionstring|(?:access|account|api|app|auth|client"
    "|consumer|dev|encryption|license|master|private|session|shared|signing|subscription)key"
)
# Token, password, secret and key in other languages: whole words, stems, and words of scripts without spaces.
WORDS_ABROAD: Final = (
    "chave", "chiave", "clave", "geheimnis", "jeton", "kennwort", "klucz", "passe", "segredo", "segreto", "sekret",
    "senha",
)  # fmt: skip
_STEMS: Final = "токен|парол|секрет|ключ|schlüssel|clé|contraseña|hasł"
_UNSPACED: Final = "令牌|密码|密碼|密钥|密鑰|口令|トークン|パスワード|秘密鍵"
ABROAD: Final = rf"(?i:(?<![^\W\d_])(?:{_STEMS})[^\W\d_]{{0,4}}+|{_UNSPACED})"
_ABROAD: Final = re.compile(ABROAD)
_SHORT: Final = frozenset(
    {"hmac", "nonce", "otp", "pass", "pat", "pem", "pin", "salt", "seed", "sid", "sig", "totp", *WORDS_ABROAD}
)
_WHOLE: Final = frozenset({"code", "sess", "session"})
_MEMBERS: Final = frozenset({"auth", "basicauth", "proxyauth", "raw"})  # of objects; in prose they are plain words
_PLAIN_KEYS: Final = frozenset(
    {
        "cache", "foreign", "idempotency", "integration", "message", "object", "partition", "primary", "providerconfig",
        "public", "routing", "sort", "translation", "unique",
    }
)  # fmt: skip
_CODES: Final = frozenset(
    {"access", "auth", "backup", "confirmation", "device", "fa", "mfa", "otp", "recovery", "security", "sms", "user"}
)
# Endings of names that describe a credential without holding it: `token_type`, `expires_in`, `tokenUrl`.
_ABOUT: Final = frozenset(
    {
        "at", "count", "enabled", "endpoint", "error", "expiration", "expired", "expires", "expiry", "in", "length",
        "limit", "method", "mode", "policy", "required", "scope", "scopes", "status", "type", "uri", "url", "valid",
        "version",
    }
)  # fmt: skip


# Names that may hold a credential, but more often the code of an error, or a word.
_AMBIGUOUS: Final = frozenset({"code", "key"})
_PLAIN_CODE: Final = re.compile(r"[0-9]{1,4}|[A-Z][A-Z_]*+|[A-Z]?[a-z]++(?:[_.-][a-z]++)*+")


def is_secret_name(name: str, *, member: bool = False) -> bool:
    """Whether a name stands for a credential, in any case and with any separators.

    member: the name of an object's member; some words count there, but not in prose.
    """
    return _is_secret(name[:LONGEST], member)


def is_plain_code(name: str, value: str) -> bool:
    """Whether the value of `code` or `key` is no credential: "403", "not_found", "EACCES"."""
    return name.lower() in _AMBIGUOUS and _PLAIN_CODE.fullmatch(value) is not None


@lru_cache(4096)
def _is_secret(name: str, member: bool) -> bool:
    if not name.isascii() and _ABROAD.search(name):
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _ABOUT:
        return False
    joined, last = "".join(words), words[-1].removesuffix("s")
    if last == "key":
        return "".join(words[:-1]) not in _PLAIN_KEYS
    if joined in _WHOLE or not _SHORT.isdisjoint(words) or _TELLING.search(joined):
        return True
    return (last == "code" and not _CODES.isdisjoint(words)) or (member and joined in _MEMBERS)
