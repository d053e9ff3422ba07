"""Kubernetes quantities as whole bytes, and in the one form that the API server keeps."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

MEBI = 1 << 20
GIBI = 1 << 30
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_UNITS = {unit: Decimal(1000) ** (power - 3) for power, unit in enumerate(_DECIMAL)} | {
    unit: Decimal(1024) ** power for power, unit in enumerate(_BINARY) if unit
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-zA-Z]*)", re.ASCII)


def to_bytes(quantity: str) -> int:
    """Return a quantity such as 8Gi in bytes, rounded up.

    Raises ValueError when it is no quantity.
    """
    return _whole(_number(quantity)[0])


def in_mebi(size: int) -> str:
    """Return a size in bytes as a quantity of whole Mi, rounded up, in the form that the API server keeps."""
    return canonical(f"{-(-size // MEBI)}Mi")


def canonical(quantity: str | int) -> str:
    """Return a quantity as the API server would store it: 1000m is 1, 1024Mi is 1Gi, 0.5Gi is 512Mi.

    Server-side apply would otherwise differ from what is stored, each time. What is no quantity stays as it is: the
    API server says so better. Source: CanonicalizeBytes in k8s.io/apimachinery/pkg/api/resource/quantity.go.
    """
    try:
        number, unit = _number(str(quantity))
    except ValueError:
        return str(quantity)
    if unit in _BINARY[1:] and number >= 1024:
        number = Decimal(_whole(number))
        if number % 1024 == 0:
            return _in_largest(number, _BINARY)
    return _in_largest(number, _DECIMAL)


def _number(quantity: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(quantity)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{quantity!r} is no quantity: write a number and a unit, such as 512Mi or 8Gi")
    return Decimal(match[1]) * _UNITS[match[2]], match[2]


def _in_largest(number: Decimal, units: tuple[str, ...]) -> str:
    """Write a number with the largest unit that leaves no fraction; below the smallest unit it is rounded up."""
    if not number:
        return "0"
    fitting = (unit for unit in reversed(units) if number % _UNITS[unit] == 0)
    unit = next(fitting, units[0])
    return f"{_whole(number / _UNITS[unit])}{unit}"


def _whole(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))
