import pytest

from bench.figures import Line, Spread, line_through, ratios, spread_of


def test_the_slope_of_two_lengths_is_the_cost_of_one_more_event():
    assert line_through((50, 700.0), (250, 2700.0)) == Line(per_stream=200.0, per_event=10.0)


def test_two_streams_of_one_length_have_no_slope():
    with pytest.raises(ValueError, match="same number"):
        line_through((50, 1.0), (50, 2.0))


def test_a_ratio_is_taken_pair_by_pair_so_that_a_drift_of_the_machine_cancels():
    assert ratios([20.0, 60.0, 40.0], [10.0, 20.0, 20.0]) == Spread(2.0, 2.0, 3.0)


def test_a_round_without_its_pair_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_nothing_measured_has_no_median():
    with pytest.raises(ValueError, match="nothing"):
        spread_of([])
