"""Rules around another rule."""

from __future__ import annotations

from typing import ClassVar

from kinoform.errors import UsageError
from kinoform.numbers import check_kind
from kinoform.solvers.guidance.rule import CombiningRule


class Around(CombiningRule):
    """Guidance that changes what another `rule` is given, or what it makes."""

    __slots__ = ()
    rule: CombiningRule
    base: ClassVar[bool] = False
    """True for a rule that changes the velocity under the negative prompt, which `rule` begins from."""

    @property
    def carries_state(self) -> bool:
        return self.rule.carries_state

    def check(self, steps: int) -> None:
        """Raises UsageError where `rule` does."""
        self.rule.check(steps)

    def check_inside(self) -> None:
        """Raise UsageError for a rule that this one has no meaning around."""
        check_kind("the rule inside of guidance", self.rule, CombiningRule, "APG()")
        inside: CombiningRule = self.rule
        while isinstance(inside, Around):
            if type(inside) is type(self) or (inside.base and self.base):
                raise self._conflict(inside)
            inside = inside.rule
        if not inside.takes_rules or (self.base and not inside.takes_base):
            raise self._conflict(inside)

    def _conflict(self, inside: object) -> UsageError:
        own, other = type(self).__name__, type(inside).__name__
        return UsageError(
            f"the guidance rule {own} cannot stand around {other}, for which their combination is not defined; "
            "leave one of the two out",
            code="rules_conflict",
        )
