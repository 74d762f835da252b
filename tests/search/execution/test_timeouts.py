"""When a candidate counts as hung."""

from __future__ import annotations

from search.execution.timeouts import FACTOR, FIRST, LEAST, TrialTimeout


def test_the_limit_on_time_without_a_users() -> None:
    patience = TrialTimeout()
    # on the present epoch, from when it was called for
    assert patience.limit(began=0, called=100)[0] == 100 + FIRST
    patience.epoch_took(1)
    assert patience.limit(0, 100)[0] == 100 + LEAST
    patience.epoch_took(1000)
    patience.epoch_took(10)
    limit, sentence = patience.limit(0, 100)
    assert limit == 100 + FACTOR * 1000
    assert sentence == "it hung: no end of an epoch in 500 minutes"
    # the user's is on all of it
    assert TrialTimeout(minutes=2).limit(began=5, called=100)[0] == 5 + 120
