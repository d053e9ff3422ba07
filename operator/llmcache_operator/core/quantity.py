"""Kubernetes quantities as whole bytes, and back."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

MEBI = 1 << 20
GIBI = 1 << 30
_SUFFIXES = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
}


def to_bytes(quantity: str) -> int:
    """Return a quantity such as 8Gi in bytes, rounded up.

    Raises ValueError when it is no quantity.
    """
    number = quantity.rstrip("mkKMGTPi")
    try:
        return int((Decimal(number) * _SUFFIXES[quantity[len(number) :]]).to_integral_value(ROUND_CEILING))
    except (ArithmeticError, KeyError) as error:
        raise ValueError(f"{quantity!r} is no quantity: write a number and a unit, such as 512Mi or 8Gi") from error


def in_mebi(size: int) -> str:
    """Return a size in bytes as whole Mi, rounded up: the form that Kubernetes keeps as it was written.

    Whole Gi are written as such, since the API server would turn 1024Mi into 1Gi when it stores a pod.
    """
    mebi = -(-size // MEBI)
    return f"{mebi // 1024}Gi" if mebi % 1024 == 0 else f"{mebi}Mi"
