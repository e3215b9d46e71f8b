from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.errors import ConfigError
from xkd_ros.pairing.nearest import NearestPairer, Pair

MS = 1_000_000
# Coarse stamps, so that equal ones and ties of distance are common.
stamps = st.lists(st.integers(0, 40), max_size=12).map(sorted)


def brute_force(scans: list[int], cameras: list[list[int]], limit: int, require_all: bool) -> list[tuple[int, tuple[int | None, ...]]]:
    """Look at every image for every scan: nearest, then earlier, then first."""
    pairs = []
    for number, scan in enumerate(scans):
        chosen: list[int | None] = []
        for images in cameras:
            best = min(range(len(images)), key=lambda i: (abs(images[i] - scan), images[i], i), default=None)
            chosen.append(best if best is not None and abs(images[best] - scan) <= limit else None)
        matched = [index is not None for index in chosen]
        if all(matched) if require_all else any(matched):
            pairs.append((number, tuple(chosen)))
    return pairs


def push_all(pairer: NearestPairer, scans: list[int], cameras: list[list[int]], order: list[int]) -> list[Pair]:
    """Push each stream in its own order, the streams in the given one; stream 0 is the lidar."""
    streams = [list(enumerate(scans)), *(list(enumerate(images)) for images in cameras)]
    pairs: list[Pair] = []
    for stream in order:
        number, stamp = streams[stream].pop(0)
        pairs += pairer.push_scan(stamp, number) if stream == 0 else pairer.push_image(stamp, number, stream - 1)
    assert not any(streams)
    return pairs


def as_numbers(pairs: list[Pair]) -> list[tuple[int, tuple[int | None, ...]]]:
    return [(pair.scan, pair.images) for pair in pairs]


@settings(max_examples=400, deadline=None)
@given(scans=stamps, cameras=st.lists(stamps, min_size=1, max_size=3), limit=st.integers(0, 15), require_all=st.booleans(), data=st.data())
def test_pairs_are_those_of_brute_force_in_any_order_of_arrival(
    scans: list[int], cameras: list[list[int]], limit: int, require_all: bool, data: Any
) -> None:
    order = [0] * len(scans) + [index for index, images in enumerate(cameras, 1) for _ in images]
    pairer = NearestPairer(limit, len(cameras), require_all)
    pairs = push_all(pairer, scans, cameras, data.draw(st.permutations(order)))
    pairs += pairer.flush()
    expected = brute_force(scans, cameras, limit, require_all)
    assert as_numbers(pairs) == expected
    for pair in pairs:
        for camera, (image, offset) in enumerate(zip(pair.images, pair.dt_ns)):
            assert (image is None) == (offset is None)
            assert offset is None or offset == cameras[camera][image] - pair.stamp_ns
    counts = pairer.statistics
    assert counts.scans == len(scans) and counts.images == [len(images) for images in cameras] and counts.pairs == len(expected)
    assert counts.pairs + sum(counts.unmatched_scans.values()) == counts.scans
    used = {(camera, image) for _, images in expected for camera, image in enumerate(images) if image is not None}
    assert sum(counts.unmatched_images.values()) == sum(counts.images) - len(used)


@settings(max_examples=200, deadline=None)
@given(scans=stamps, images=stamps, data=st.data())
def test_a_pair_comes_out_exactly_when_no_nearer_image_can_come(scans: list[int], images: list[int], data: Any) -> None:
    """After each message: decided are the scans with an image at or after them, no more and no fewer."""
    pairer = NearestPairer(1000)
    seen_scans: list[int] = []
    seen_images: list[int] = []
    done = 0
    order = data.draw(st.permutations([0] * len(scans) + [1] * len(images)))
    for stream in order:
        if stream == 0:
            seen_scans.append(scans[len(seen_scans)])
            pairs = pairer.push_scan(seen_scans[-1], len(seen_scans) - 1)
        else:
            seen_images.append(images[len(seen_images)])
            pairs = pairer.push_image(seen_images[-1], len(seen_images) - 1)
        done += len(pairs)
        assert done == sum(bool(seen_images) and seen_images[-1] >= scan for scan in seen_scans)


def test_scans_that_no_image_follows_go_at_the_deadline() -> None:
    pairer = NearestPairer(50 * MS, deadline_ns=200 * MS)
    assert pairer.push_image(95 * MS, "early") == []
    assert pairer.push_scan(100 * MS, "first", now_ns=0) == []
    assert pairer.push_scan(300 * MS, "second", now_ns=150 * MS) == []
    assert pairer.expire(199 * MS) == []
    assert as_numbers(pairer.expire(200 * MS)) == [("first", ("early",))]
    assert pairer.expire(349 * MS) == []
    assert pairer.expire(350 * MS) == []
    assert pairer.statistics.unmatched_scans == Counter({"no image before the deadline": 1})
    # An image that comes too late for its scan serves the next one.
    assert pairer.push_image(300 * MS, "late") == []
    assert as_numbers(pairer.push_scan(300 * MS, "third")) == [("third", ("late",))]


def test_full_buffers_drop_the_oldest_and_say_so() -> None:
    pairer = NearestPairer(50 * MS, max_waiting=3)
    for number in range(5):
        assert pairer.push_scan(number * 100 * MS, number) == []
    assert pairer.statistics.unmatched_scans == Counter({"buffer full": 2})
    pairer = NearestPairer(50 * MS, max_waiting=3)
    for number in range(5):
        assert pairer.push_image(number * 100 * MS, number) == []
    assert pairer.statistics.unmatched_images == Counter({"buffer full": 2})
    assert as_numbers(pairer.push_scan(310 * MS, "scan") + pairer.flush()) == [("scan", (3,))]


def test_a_full_buffer_of_one_camera_decides_scans_that_wait_for_another() -> None:
    pairer = NearestPairer(50 * MS, cameras=2, max_waiting=3)
    pairs: list[Pair] = []
    for at in range(0, 1000, 10):
        pairs += pairer.push_image((at + 4) * MS, at)
        if at % 100 == 0:
            pairs += pairer.push_scan((at + 1) * MS, at)
    # The other camera is dead; every scan has the image that the bag gives it, and only the last one still waits.
    assert as_numbers(pairs + pairer.flush()) == [(at, (at, None)) for at in range(0, 1000, 100)]
    assert not pairer.statistics.unmatched_scans


def test_an_older_scan_ends_with_the_one_whose_image_leaves_a_full_buffer() -> None:
    pairer = NearestPairer(50 * MS, cameras=2, max_waiting=2)
    pairs = pairer.push_scan(0, "before the camera") + pairer.push_scan(100 * MS, "scan")
    for at in (90, 140, 150):
        pairs += pairer.push_image(at * MS, at)
    assert as_numbers(pairs) == [("scan", (90, None))]
    assert pairer.statistics.unmatched_scans == Counter({"buffer full": 1})


def test_where_all_cameras_are_required_a_full_buffer_leaves_the_scan_its_chance() -> None:
    pairer = NearestPairer(50 * MS, cameras=2, require_all=True, max_waiting=3)
    pairs = pairer.push_scan(100 * MS, "scan")
    for at in (100, 110, 120, 130):
        pairs += pairer.push_image(at * MS, at)
    assert pairs == []
    assert as_numbers(pairer.push_image(100 * MS, "late", camera=1)) == [("scan", (110, "late"))]


def test_memory_is_bounded_by_what_a_coming_scan_can_want() -> None:
    pairer = NearestPairer(50 * MS)
    for number in range(1000):
        pairer.push_scan(number * 100 * MS, number)
        for image in range(3):
            pairer.push_image((number * 100 + 33 * image + 1) * MS, None)
        assert len(pairer._queues[0].stamps) <= 5 and len(pairer._scans) <= 1
    assert pairer.statistics.pairs == 1000


@pytest.mark.parametrize("lidar_first", [True, False])
def test_a_looping_bag_starts_anew_and_loses_no_scan_of_the_next_round(lidar_first: bool) -> None:
    pairer = NearestPairer(50 * MS)
    pairs: list[Pair] = []
    for lap in range(3):
        for number in range(20):
            scan = (number * 100 * MS, (lap, number))
            image = ((number * 100 + 10) * MS, (lap, number))
            if lidar_first:
                pairs += pairer.push_scan(*scan) + pairer.push_image(*image)
            else:
                pairs += pairer.push_image(*image) + pairer.push_scan(*scan)
    pairs += pairer.flush()
    assert all(pair.images == (pair.scan,) for pair in pairs)
    # The last scan of a lap may still wait for its image when the clock jumps.
    assert len(pairs) >= 60 - 2 and pairer.statistics.resets >= 2


def test_a_clock_that_jumps_back_on_one_side_only_is_seen() -> None:
    pairer = NearestPairer(50 * MS)
    for number in range(10):
        pairer.push_scan((10_000 + number * 100) * MS, number)
        pairer.push_image((10_000 + number * 100) * MS, number)
    # The camera restarts five seconds behind.
    for number in range(10, 20):
        pairer.push_image((5_000 + number * 100) * MS, number)
        pairer.push_scan((10_000 + number * 100) * MS, number)
    pairer.flush()
    assert pairer.statistics.pairs == 10 and pairer.statistics.resets == 1


def test_small_steps_back_drop_the_message_only() -> None:
    pairer = NearestPairer(50 * MS)
    pairer.push_scan(100 * MS, "a")
    assert pairer.push_scan(90 * MS, "b") == []
    pairer.push_image(100 * MS, "A")
    assert pairer.push_image(20 * MS, "B") == []
    assert pairer.statistics.unmatched_scans == Counter({"out of order": 1})
    assert pairer.statistics.unmatched_images == Counter({"out of order": 1})
    assert pairer.statistics.pairs == 1 and pairer.statistics.resets == 0


def test_statistics_explain_themselves() -> None:
    pairer = NearestPairer(50 * MS)
    assert pairer.statistics.explain() == "no scan has arrived: check the points topic"
    for number in range(100):
        pairer.push_scan((100_000 + number * 100) * MS, number)
    assert pairer.statistics.explain() == "no image has arrived on camera 0: check the image topic"
    for number in range(100):
        pairer.push_image((63_000 + number * 100) * MS, number)
    pairer.flush()
    assert pairer.statistics.explain().startswith("0 pairs of 100 scans: image stamps are ")
    assert "behind the scans; synchronise the clocks" in pairer.statistics.explain()
    pairer = NearestPairer(10 * MS)
    for number in range(20):
        pairer.push_image((number * 100 + number) * MS, number)
        pairer.push_scan(number * 100 * MS, number)
    pairer.flush()
    assert pairer.statistics.pairs == 11
    assert pairer.statistics.explain() == "9 of 20 scans have no image (9 too far)"
    assert pairer.statistics.dt_ms(50) == pytest.approx(5) and pairer.statistics.dt_ms(100) == pytest.approx(10)
    good = NearestPairer(10 * MS)
    good.push_scan(1, "a")
    good.push_image(1, "b")
    assert good.statistics.explain() == ""


def test_limits_that_make_no_sense_are_refused() -> None:
    for arguments in ({"max_dt_ns": -1}, {"max_dt_ns": 1, "cameras": 0}, {"max_dt_ns": 1, "max_waiting": 0}):
        with pytest.raises(ConfigError):
            NearestPairer(**arguments)
