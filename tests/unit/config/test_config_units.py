import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from proxy.config.units import MAX_BYTES, MAX_SECONDS, seconds, size

FACTORS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (30, 30.0),
        (0.5, 0.5),
        ("30", 30.0),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
        ("1.5 h", 5400.0),
        (" 10 s ", 10.0),
        (0, 0.0),
    ],
)
def test_durations_are_read_as_people_write_them(written: object, expected: float) -> None:
    assert seconds(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "30sec",
        "-5s",
        "5 minutes",
        "1:30",
        "٣s",
        True,
        None,
        [],
        -1,
        math.nan,
        math.inf,
        MAX_SECONDS * 2,
        "9" * 400,
    ],
)
def test_what_is_no_duration_is_refused_with_a_remedy(written: object) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        seconds(written)
    assert "30s" in (caught.value.context or {})["hint"]


@given(st.integers(0, 3_650), st.sampled_from(sorted(FACTORS)))
def test_a_duration_is_its_count_times_its_unit(count: int, unit: str) -> None:
    assert seconds(f"{count}{unit}") == pytest.approx(count * FACTORS[unit])


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(sorted(FACTORS))), min_size=1, max_size=4))
def test_a_compound_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    written = "".join(f"{count}{unit}" for count, unit in parts)
    assert seconds(written) == pytest.approx(sum(count * FACTORS[unit] for count, unit in parts))


@given(st.text())
def test_any_text_is_a_duration_in_range_or_refused(text: str) -> None:
    try:
        number = seconds(text)
    except PydanticCustomError:
        return
    assert 0 <= number <= MAX_SECONDS


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("64KiB", 64 * 1024),
        ("4MiB", 4 * 1024**2),
        ("1gib", 1024**3),
        ("64MB", 64_000_000),
        ("64 kb", 64_000),
        ("1.5KiB", 1536),
        ("10b", 10),
    ],
)
def test_sizes_are_read_as_people_write_them(written: object, expected: int) -> None:
    assert size(written) == expected


@pytest.mark.parametrize(
    "written", ["", "big", "64K", "-1", -1, 1.5, "0.5b", True, None, MAX_BYTES + 1, "9" * 400 + "GB"]
)
def test_what_is_no_size_is_refused_with_a_remedy(written: object) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        size(written)
    assert "4MiB" in (caught.value.context or {})["hint"]


@given(st.integers(0, MAX_BYTES))
def test_a_plain_number_of_bytes_is_taken_exactly(count: int) -> None:
    assert size(count) == size(str(count)) == size(f"{count}B") == count


@given(st.text())
def test_any_text_is_a_size_in_range_or_refused(text: str) -> None:
    try:
        number = size(text)
    except PydanticCustomError:
        return
    assert 0 <= number <= MAX_BYTES
