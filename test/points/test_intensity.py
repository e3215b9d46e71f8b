from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.card import IntensityConfig
from xkd_ros.points.intensity import OnlineIntensity, fit, normalise


@pytest.mark.parametrize("unit", [1 / 255, 1.0, 1.9])
def test_fit_agrees_with_sorting_all_values(unit):
    values = np.random.default_rng(0).gamma(2.0, 25.0, 50_000).clip(0, 255) * unit
    config = fit(values)
    low, high = np.quantile(values, [0.01, 0.995])
    clipped = values.clip(low, high)
    np.testing.assert_allclose([config.low, config.high, config.mean, config.std], [low, high, clipped.mean(), clipped.std()], rtol=0.02)
    assert not config.log1p


def test_the_unit_of_the_sensor_does_not_matter():
    values = np.random.default_rng(1).gamma(2.0, 25.0, 20_000).astype(np.float32)
    one = normalise(values, fit(values), len(values))
    other = normalise(values / 256, fit(values / 256), len(values))
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert abs(one.mean()) < 0.02 and abs(one.std() - 1) < 0.02


def test_wide_ranges_are_taken_logarithmically():
    values = np.exp(np.random.default_rng(2).normal(6, 1.5, 20_000)).clip(0, 65535)
    config = fit(values)
    scaled = normalise(values, config, len(values))
    assert config.log1p and abs(scaled.mean()) < 0.02 and abs(scaled.std() - 1) < 0.02
    assert abs(np.median(scaled)) < 0.15  # symmetric again


def test_a_few_wild_values_change_little():
    values = np.random.default_rng(3).uniform(0, 100, 10_000)
    wild = np.concatenate([values, np.full(20, 1e30), [np.nan, np.inf, -np.inf, -5.0]])
    clean, dirty = fit(values), fit(wild)
    np.testing.assert_allclose([dirty.mean, dirty.std, dirty.high], [clean.mean, clean.std, clean.high], rtol=0.03)
    assert dirty.log1p == clean.log1p


@pytest.mark.parametrize("values", [[], [np.nan] * 5, [-1.0], [0.0] * 9, [7.0] * 100, [np.inf]])
def test_nothing_to_learn_gives_zero_for_the_sensor_that_says_nothing(values):
    values = np.array(values, np.float32)
    config = fit(values)
    scaled = normalise(values, config, len(values))
    assert np.isfinite(scaled).all()
    if len(set(values.tolist())) == 1 and values[0] >= 0 and np.isfinite(values[0]):
        np.testing.assert_allclose(scaled, 0, atol=1e-6)


def test_rounding_of_a_constant_channel_is_no_signal():
    values = np.float32(1000) + np.random.default_rng(0).choice(np.float32([0, 6e-5]), 5000)
    assert 0 < values.std() < 1e-3 and np.abs(normalise(values, fit(values), len(values))).max() < 0.01


def test_absent_or_broken_intensity_is_zero():
    config = IntensityConfig(low=0, high=255, mean=40, std=20)
    assert normalise(None, config, 4).tolist() == [0] * 4
    broken = normalise(np.array([np.nan, 40.0, 1e9]), config, 3)
    np.testing.assert_allclose(broken, [0, 0, (255 - 40) / 20], rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), parts=st.integers(1, 8))
def test_learning_online_ends_where_fitting_everything_does(seed, parts):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 30.0, 8000).astype(np.float32)
    online = OnlineIntensity()
    for part in np.array_split(values, parts):
        online.update(part)
    online.update(np.repeat(values, 2))  # passes the next refresh
    np.testing.assert_allclose(online.config.mean, fit(values).mean, rtol=1e-9)
    assert online.config.high == fit(values).high


def test_the_prior_holds_until_enough_was_seen_and_memory_is_bounded():
    prior = IntensityConfig(low=1, high=2, mean=1.5, std=0.1)
    online = OnlineIntensity(prior, min_points=100, memory_points=5000)
    assert online.update(None) is prior
    assert online.update(np.arange(50)) is prior
    assert online.update(np.arange(60)) is not prior
    for _ in range(100):
        online.update(np.full(1000, 5.0))
    assert online._histogram[0].sum() <= 5000
    for _ in range(20):
        online.update(np.random.default_rng(0).uniform(50, 90, 1000))
    assert 60 < online.config.mean < 80  # the new place has replaced the old one
