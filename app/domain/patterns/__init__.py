"""Amazon EventBridge event patterns over the event document.

Three things differ from EventBridge on purpose: a dot in a field name is just a character (tag keys may contain dots);
a key that stands twice, and a field that a `$or` names a second time, are refused, where EventBridge would silently
drop one of the two.
"""

from app.domain.patterns.pattern import Condition, Pattern, compile_pattern

__all__ = ["Condition", "Pattern", "compile_pattern"]
