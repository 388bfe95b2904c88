"""Regular expressions that are compiled at their first use.

To compile one takes up to half a millisecond. A run's modules have thirty, and a small run uses
none of most of them. What is made here has the methods of `re.Pattern`, and is no argument for
`re.sub` and its like.
"""

from __future__ import annotations

import re

from oumi_flow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import compile as pattern
else:

    class pattern:
        """Takes what `re.compile` takes. A mistake in it is raised at the first use."""

        def __init__(self, text: str | bytes, flags: int = 0) -> None:
            self._asked = text, flags

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            found = getattr(re.compile(*self._asked), name)
            setattr(self, name, found)  # the next use comes no more by here
            return found


__all__ = ["pattern"]
