"""What JSON leaves to its readers, decided: a name stands once in an object."""

from __future__ import annotations

from typing import Any


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object, for `json.loads(..., object_pairs_hook=each_once)`.

    Parameters
    ----------
    pairs : list of (str, Any)

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If a name stands twice: the standard library would drop all values but the last without a word.

    Examples
    --------
    >>> import json
    >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=each_once)
    Traceback (most recent call last):
    ...
    ValueError: the field 'a' stands twice
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the field {name!r:.80} stands twice")
            seen.add(name)
    return fields
