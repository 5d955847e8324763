"""What a parameter may be: its type hint, read strictly. A number is written as a number; only a whole one may stand for a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints

import numpy as np
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

_KINDS = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the type hints of a function, ``Annotated`` limits included; none if they cannot be read at run time."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:
        return {}


def checked(value: Any, hint: Any) -> Any:
    """Return a value as its type hint wants it.

    Parameters
    ----------
    value
        What was given; a numpy scalar counts as the Python number that it holds.
    hint
        A type, perhaps ``Annotated`` with limits.

    Raises
    ------
    ValueError
        With one sentence, without a full stop: the value is of another type, outside its limits, or not finite.
    """
    given = value.item() if isinstance(value, np.generic) else value
    adapter = _adapter(hint)
    if adapter is None:
        return given
    try:
        result = adapter.validate_python(given)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].rstrip(".")) from None
    _keep_kind(given, result)
    return result


def _keep_kind(given: Any, result: Any) -> None:
    """Refuse what pydantic turned into another kind of value: ``true`` into 1.0, ``"0.3"`` into 0.3, 1 into true."""
    if isinstance(result, list | tuple) and isinstance(given, list | tuple):
        for before, after in zip(given, result, strict=True):
            _keep_kind(before, after)
    elif type(result) in _KINDS and type(given) is not type(result) and not (type(result) is float and type(given) is int):
        msg = f"Input should be {_KINDS[type(result)]}"
        raise ValueError(msg)


@lru_cache(maxsize=256)
def _cached(hint: Any) -> TypeAdapter[Any] | None:
    return _made(hint)


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return _cached(hint)
    except TypeError:  # the metadata of a hint need not be hashable
        return _made(hint)


def _made(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a model or dataclass brings its own configuration
        return TypeAdapter(hint)
