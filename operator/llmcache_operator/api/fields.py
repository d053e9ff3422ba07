"""The base of every model and the few types that fields share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

INT_OR_STRING: dict[str, Any] = {"x-kubernetes-int-or-string": True, "maxLength": 32}
OPEN_OBJECT: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
PATTERN_MESSAGE = "x-pattern-message"


def rule(expression: str, message: str, *, path: str | None = None, says: str | None = None) -> dict[str, str]:
    """One CEL rule of the CRD: the API server refuses the object with `message` where it is false.

    `path` (a field below the object that holds the rule, with a leading dot) is where the refusal points. `says` is a
    CEL expression for a message that names what was found; `message` stands in where it can't be worked out.
    """
    extras = {"fieldPath": path, "messageExpression": says}
    return {"rule": expression, "message": message} | {key: text for key, text in extras.items() if text}


def pattern_message(text: str) -> dict[str, Any]:
    """Extra JSON schema that says in words what a field's pattern asks for, since people are shown no expression."""
    return {PATTERN_MESSAGE: text}


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """Extra JSON schema that carries CEL rules."""
    return {"x-kubernetes-validations": list(entries)}


class Model(BaseModel):
    """Immutable, camelCase outside, and tolerant of fields of a newer CRD than this operator knows."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_enum_values=False
    )


class Switch(StrEnum):
    """On or off, in words."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


Quantity = Annotated[
    str,
    Field(
        pattern=QUANTITY_PATTERN,
        max_length=32,
        json_schema_extra=pattern_message("must be a number and a unit, such as 500m, 512Mi or 8Gi"),
    ),
]
"""A Kubernetes quantity, such as 8Gi."""

AnyQuantity = Annotated[int | str, Field(json_schema_extra=INT_OR_STRING)]
"""A quantity inside `resources`, where people also write plain numbers."""

Amounts = Annotated[
    dict[str, AnyQuantity],
    Field(
        max_length=16,
        json_schema_extra=rules(
            rule(
                "self.all(name, isQuantity(string(self[name])))",
                "every amount must be a quantity, such as 500m, 4 or 16Gi",
                says="self.filter(name, !isQuantity(string(self[name])))[0] + "
                "' must be a quantity, such as 500m, 4 or 16Gi'",
            )
        ),
    ),
]
"""Amounts by resource name, as in a Pod."""

OpenObject = Annotated[dict[str, Any], Field(json_schema_extra=OPEN_OBJECT)]
"""An object of Kubernetes itself, checked by the API server when the pod template is applied."""

LabelMap = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=64),
]
