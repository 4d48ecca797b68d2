"""Laws of train/schedule.py, for every schedule and all shares of the run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import ConfigError
from malmoi.train.schedule import Cosine, Schedule, WarmupStableDecay

shares = st.floats(0, 1)
schedules = st.one_of(
    st.builds(Cosine, warmup=st.floats(0, 0.9), final=shares),
    st.tuples(shares, shares, shares).map(
        lambda s: WarmupStableDecay(warmup=s[0], decay=s[1] * (1 - s[0]), final=s[2])
    ),
)


@given(schedule=schedules, progress=shares)
def test_a_factor_is_never_negative_and_never_above_the_peak(schedule: Schedule, progress: float) -> None:
    assert 0 <= schedule.factor(progress) <= 1


@given(schedule=schedules, earlier=shares, later=shares)
def test_the_rate_rises_in_the_warm_up_and_never_after_it(
    schedule: Schedule, earlier: float, later: float
) -> None:
    earlier, later = sorted((earlier, later))
    if later < schedule.warmup:
        assert schedule.factor(earlier) <= schedule.factor(later)
    if earlier >= schedule.warmup:
        assert schedule.factor(earlier) >= schedule.factor(later) - 1e-12


@given(warmup=st.floats(0.01, 0.5), progress=st.floats(0.01, 0.99))
def test_the_warm_up_is_a_straight_line_from_nothing_to_the_peak(warmup: float, progress: float) -> None:
    for schedule in (Cosine(warmup=warmup), WarmupStableDecay(warmup=warmup, decay=0.5)):
        assert schedule.factor(progress * warmup) == pytest.approx(progress)
        assert schedule.factor(warmup) == pytest.approx(1)


@given(warmup=st.floats(0, 0.4), decay=st.floats(0.1, 0.5), final=shares, progress=shares)
def test_stable_is_stable_and_the_decay_is_a_straight_line_to_the_end(
    warmup: float, decay: float, final: float, progress: float
) -> None:
    schedule = WarmupStableDecay(warmup=warmup, decay=decay, final=final)
    if warmup <= progress <= 1 - decay:
        assert schedule.factor(progress) == 1
    assert schedule.factor(1 - decay * progress) == pytest.approx(final + (1 - final) * progress, abs=1e-9)


@given(warmup=st.floats(0, 0.9), final=shares)
def test_a_cosine_is_halfway_down_halfway_through(warmup: float, final: float) -> None:
    schedule = Cosine(warmup=warmup, final=final)
    assert schedule.factor((1 + warmup) / 2) == pytest.approx((1 + final) / 2)
    assert schedule.factor(1) == pytest.approx(final)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Cosine, {"warmup": 1.0}),
        (Cosine, {"warmup": -0.1}),
        (WarmupStableDecay, {"warmup": 0.6, "decay": 0.6}),
        (WarmupStableDecay, {"decay": -0.1}),
    ],
)
def test_shares_that_do_not_fit_into_a_run_are_refused(
    kind: type[Schedule], settings: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match=r"share.* of the run"):
        kind(**settings)
