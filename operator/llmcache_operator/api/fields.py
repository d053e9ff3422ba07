"""The base of every model and the few types that fields share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

INT_OR_STRING: dict[str, Any] = {"x-kubernetes-int-or-string": True}
OPEN_OBJECT: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"


def rule(expression: str, message: str, *, path: str | None = None) -> dict[str, str]:
    """One CEL rule of the CRD: the API server refuses the object with `message` where it is false.

    `path` (a field below the object that holds the rule, with a leading dot) is where the refusal points.
    """
    return {"rule": expression, "message": message} | ({"fieldPath": path} if path else {})


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """Extra JSON schema that carries CEL rules."""
    return {"x-kubernetes-validations": list(entries)}


class Model(BaseModel):
    """Immutable, camelCase outside, and tolerant of fields of a newer CRD than this operator knows."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_enum_values=False
    )


Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, min_length=1, max_length=32)]
"""A Kubernetes quantity, such as 8Gi."""

AnyQuantity = Annotated[int | str, Field(json_schema_extra=INT_OR_STRING)]
"""A quantity inside `resources`, where people also write plain numbers."""

Line = Annotated[str, Field(min_length=1, max_length=4096)]
OpenObject = Annotated[dict[str, Any], Field(json_schema_extra=OPEN_OBJECT)]
"""An object of Kubernetes itself, checked by the API server when the pod template is applied."""

LabelMap = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=64),
]
