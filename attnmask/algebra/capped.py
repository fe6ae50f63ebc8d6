"""Bounded work with the integer set library: past a number of its operations a question is given up, never hung."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import islpy as isl

CONTEXT = isl.Context()
# Sets belong to the one context, and isl does not expect two threads in it.
_one_at_a_time = RLock()


class TooHardError(Exception):
    """The cap was reached before there was an answer."""


@contextmanager
def capped(operations: int) -> Iterator[None]:
    """Gives up with TooHardError past this number of isl's operations. Nested caps count on their own."""
    with _one_at_a_time:
        before = CONTEXT.get_max_operations()
        CONTEXT.reset_operations()
        CONTEXT.set_max_operations(operations)
        try:
            yield
        except isl.Error as error:
            raise TooHardError(f"more than {operations} operations") from error
        finally:
            CONTEXT.reset_operations()
            CONTEXT.set_max_operations(before)
