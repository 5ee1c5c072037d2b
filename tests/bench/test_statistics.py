"""Medians, percentiles and ratios of pairs."""

import pytest
from bench.statistics import median, paired_ratio, percentile


def test_a_percentile_is_one_of_the_values():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 50) == 3.0
    assert percentile(values, 99) == 5.0
    assert percentile(values, 0) == 1.0
    assert percentile([7.0], 99) == 7.0


def test_no_values_have_no_percentile_and_no_median():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_the_median_of_an_even_number_lies_between_the_two_in_the_middle():
    assert median([1.0, 10.0, 2.0, 3.0]) == 2.5
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_a_paired_ratio_does_not_feel_a_machine_that_grows_slower_meanwhile():
    peers = [1.0, 2.0, 10.0]
    assert paired_ratio([2 * value for value in peers], peers) == 2.0
