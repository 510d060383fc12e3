"""Construction from JSON that takes nothing it doesn't know."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Self, get_type_hints

from whisfusion_jax.errors import WhisfusionError


class FromDict:
    """Strict JSON-style construction, shared by every config."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from parsed JSON; lists become tuples, and objects the configs that fields are of.

        Raises:
            WhisfusionError: a field is unknown (the nearest known name is suggested) or missing.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in data:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise WhisfusionError(f"{cls.__name__} has no field {key!r}{hint}")
        missing = [
            name
            for name, field in fields.items()
            if name not in data
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise WhisfusionError(f"{cls.__name__} lacks {', '.join(missing)}")
        hints = get_type_hints(cls)
        return cls(**{key: _of_kind(hints[key], value) for key, value in data.items()})


def _of_kind(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(hint, type) and issubclass(hint, FromDict):
        return hint.from_dict(value)
    return frozen(value)


def frozen(value: Any) -> Any:
    """JSON's lists as tuples, also inside of each other."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value
