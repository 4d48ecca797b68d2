"""Which tokens may come next, said by whoever asks: `LogitsRule`, the seam between text and the engine.

    Request.rule -> Generation.rule (a copy) -> allowed() -> PENALTIES -> sampling -> token -> advance(token)

The engine knows no text, so a grammar or a lock on scripts reaches it as a rule over ids. Read next: `penalties.py`,
which applies it; `malmoi/llm/grammar.py` and `malmoi/llm/script_lock.py`, which make such rules.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from malmoi.core.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


class LogitsRule(ABC):
    """What one answer may go on with, and how far it has come.

    Laws: a fresh rule advanced over the same tokens allows the same; a copy and its original know nothing of each
    other. So a request may be answered several times, forked, preempted, or begun again on another engine.

    >>> class Alternating(LogitsRule):
    ...     def __init__(self, last: int = 0) -> None:
    ...         self.last = last
    ...     def allowed(self) -> "Tensor":
    ...         return torch.tensor([self.last == 1, self.last == 0])
    ...     def advance(self, token: int) -> None:
    ...         self.last = token
    ...     def copy(self) -> "Alternating":
    ...         return Alternating(self.last)
    >>> rule = Alternating()
    >>> rule.advance(1)
    >>> rule.allowed()
    tensor([ True, False])
    """

    @abstractmethod
    def allowed(self) -> "Tensor | None":
        """True for each id of the model's vocabulary that may come next, (V,), on the CPU; None: all of them.

        The tensor may be shared between rules, and is only read. Raises RequestError if there is no way on: the
        request fails, the others of its batch do not.
        """

    @abstractmethod
    def advance(self, token: int) -> None:
        """Take the token that was chosen (mutates). Never raises: what is wrong, the next `allowed` says."""

    @abstractmethod
    def copy(self) -> "LogitsRule":
        """The same state, to go on from independently."""


class AllOf(LogitsRule):
    """What each of several rules allows."""

    def __init__(self, rules: Iterable[LogitsRule]) -> None:
        self._rules = tuple(rules)

    def allowed(self) -> "Tensor | None":
        together: Tensor | None = None
        for rule in self._rules:
            mask = rule.allowed()
            if mask is not None:
                together = mask if together is None else together & mask
        return together

    def advance(self, token: int) -> None:
        for rule in self._rules:
            rule.advance(token)

    def copy(self) -> "AllOf":
        return AllOf(rule.copy() for rule in self._rules)


class AnyOf(LogitsRule):
    """What one of several rules allows at least; one that has no way on counts for nothing while another has one."""

    def __init__(self, rules: Iterable[LogitsRule]) -> None:
        self._rules = tuple(rules)

    def allowed(self) -> "Tensor | None":
        masks, problem = [], None
        for rule in self._rules:
            try:
                masks.append(rule.allowed())
            except RequestError as error:
                problem = error
        if not masks:
            assert problem is not None, "there are rules"
            raise problem
        together: Tensor | None = None
        for mask in masks:
            if mask is None:
                return None
            together = mask if together is None else together | mask
        return together

    def advance(self, token: int) -> None:
        for rule in self._rules:
            rule.advance(token)

    def copy(self) -> "AnyOf":
        return AnyOf(rule.copy() for rule in self._rules)
