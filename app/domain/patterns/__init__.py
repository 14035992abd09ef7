"""Amazon EventBridge event patterns over the event document.

Two things differ from EventBridge on purpose: repeated keys, and a field that a `$or` names a second time, are refused,
where EventBridge would silently drop one of the two.
"""

from app.domain.patterns.effort import Effort
from app.domain.patterns.explaining import Condition
from app.domain.patterns.limits import ASKED, KEPT, Limits
from app.domain.patterns.pattern import Pattern, compile_pattern

__all__ = ["ASKED", "KEPT", "Condition", "Effort", "Limits", "Pattern", "compile_pattern"]
