from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.quantity import canonical, in_mebi, to_bytes

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
quantities = st.builds(
    lambda whole, part, unit: f"{whole}.{part}{unit}" if part else f"{whole}{unit}",
    st.integers(0, 5000),
    st.integers(0, 999),
    st.sampled_from(["m", *UNITS]),
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8Gi", 8 << 30),
        ("8G", 8 * 10**9),
        ("1.5Gi", 3 << 29),
        ("512Mi", 512 << 20),
        ("100", 100),
        ("1500m", 2),
        ("0", 0),
    ],
)
def test_a_quantity_is_read_in_bytes(text: str, size: int) -> None:
    assert to_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "Gi", "8GB", "8 Gi", " 8Gi", "8gi", "-1Gi", "1_000", "NaN", "Infinity", "1e3x", "٣Gi"]
)
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="512Mi or 8Gi"):
        to_bytes(text)


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNITS)))
def test_whole_numbers_of_every_unit_are_exact(number: int, unit: str) -> None:
    assert to_bytes(f"{number}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("2.0", "2"),
        (4, "4"),
        ("1000", "1k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1024Gi", "1Ti"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("181.64Ki", "186k"),
        ("1000M", "1G"),
        ("0Gi", "0"),
        ("0.0001", "100u"),
        ("8Gi", "8Gi"),
    ],
)
def test_the_canonical_form_is_the_one_that_kubernetes_stores(written: str | int, stored: str) -> None:
    assert canonical(written) == stored


def test_what_is_no_quantity_is_left_for_the_api_server_to_refuse() -> None:
    assert canonical("plenty") == "plenty"


@given(quantities)
def test_the_canonical_form_keeps_the_value_and_is_stable(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
    assert to_bytes(canonical(text)) == to_bytes(text)


@given(st.integers(1, 2**50))
def test_a_size_in_mebi_is_rounded_up_to_the_next_whole_one(size: int) -> None:
    assert 0 <= to_bytes(in_mebi(size)) - size < 1 << 20
    assert canonical(in_mebi(size)) == in_mebi(size)
    assert Decimal(to_bytes(in_mebi(size))) % (1 << 20) == 0
