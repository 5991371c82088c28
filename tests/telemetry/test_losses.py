"""Losses are counted at once and told of now and then."""

from tollhouse.telemetry.losses import REPORT_SECONDS, Losses


def test_losses_are_told_of_now_and_then_and_at_the_end():
    told: list[tuple[int, str]] = []
    clock = [100.0]
    losses = Losses(lambda lost, why: told.append((lost, why)), monotonic=lambda: clock[0])
    losses.tell("none")
    losses.add(2)
    losses.tell("first")
    losses.add(3)
    losses.tell("too soon")
    clock[0] += REPORT_SECONDS
    losses.add(1)
    losses.tell("later")
    losses.add(5)
    losses.tell("the end", is_last=True)
    losses.tell("nothing is left", is_last=True)
    assert told == [(2, "first"), (4, "later"), (5, "the end")]
    assert losses.count == 11
