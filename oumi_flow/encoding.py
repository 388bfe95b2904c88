"""JSON encoders that are made once, for the many small lines of a run.

`json.dumps` and `JSONEncoder.encode` make their C encoder anew at each call, which costs as much
as a short line does. Does not know what is encoded.
"""

from __future__ import annotations

import json
from json import encoder as of_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def encoder(
    default: Callable[[Any], Any] | None = None, *, ascii_only: bool = True, sort_keys: bool = False
) -> Callable[[Any], str]:
    """A function as `json.dumps` is with these options, without blanks between the items.

    What refers to itself ends in RecursionError.
    """
    whole = json.JSONEncoder(
        ensure_ascii=ascii_only, sort_keys=sort_keys, separators=(",", ":"), default=default
    )
    make: Any = getattr(of_json, "c_make_encoder", None)  # not there in every Python
    if make is None:
        return whole.encode
    quote = of_json.encode_basestring_ascii if ascii_only else of_json.encode_basestring
    items = make(None, whole.default, quote, None, ":", ",", sort_keys, False, True)
    return lambda value: "".join(items(value, 0))
