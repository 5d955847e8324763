"""The base of all documents, and the one canonical form that gives each of them its identity."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A frozen value that can be printed, saved and hashed; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, ser_json_inf_nan="null")

    @property
    def identity(self) -> str:
        """The sha256 of the canonical JSON of this document."""
        return digest(self.model_dump(mode="json", exclude_none=True))


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """Return the sha256 (hex) of the canonical JSON of a value: the identity used everywhere (never pickle, never a hash of sets)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
