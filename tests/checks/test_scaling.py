"""The model of an iteration against sums written out by hand, and against a slow simulation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moka.checks.scaling import Bucket, Cluster, Link, Step, forecast

FAST = Link(bytes_s=100.0, latency_s=0.5)
SLOW = Link(bytes_s=10.0, latency_s=2.0)
NOTHING = Link(bytes_s=1.0, latency_s=0.0)


def simulated_ring_s(size: float, members: int, link: Link) -> float:
    """Members pass parts on until each has all sums, then until each has all results."""
    sums = [{part: {member} for part in range(members)} for member in range(members)]
    seconds = 0.0
    for step in range(2 * (members - 1)):
        sent = [(m, (m - step) % members) for m in range(members)]
        given = [(m, part, set(sums[m][part])) for m, part in sent]
        for member, part, whose in given:
            neighbor = sums[(member + 1) % members]
            neighbor[part] = neighbor[part] | whose
        seconds += link.latency_s + size / members / link.bytes_s
    assert all(whose == set(range(members)) for own in sums for whose in own.values())
    return seconds


@pytest.mark.parametrize("members", [2, 3, 4, 7])
def test_a_ring_takes_what_passing_parts_on_takes(members: int) -> None:
    assert FAST.ring_s(840, members) == pytest.approx(simulated_ring_s(840, members, FAST))


def test_trees_have_fewer_steps_and_more_bytes() -> None:
    assert FAST.tree_s(100, 8) == 2 * 3 * 0.5 + 2 * 100 / 100
    assert FAST.tree_s(100, 9) == 2 * 4 * 0.5 + 2
    assert FAST.tree_s(100, 1) == FAST.ring_s(100, 1) == 0
    assert FAST.all_reduce_s(100, 64) == FAST.tree_s(100, 64) < FAST.ring_s(100, 64)
    assert FAST.all_reduce_s(1e6, 4) == FAST.ring_s(1e6, 4) < FAST.tree_s(1e6, 4)
    ring = Link(100.0, 0.5, rings_only=True)
    assert ring.all_reduce_s(100, 64) == FAST.ring_s(100, 64)


def cluster(devices: int, machines: int = 1, **more: float) -> Cluster:
    given = {"copied_bytes_s": float("inf"), "cores": 0} | more
    return Cluster(devices, machines, FAST, SLOW, NOTHING, given["copied_bytes_s"],
                   int(given["cores"]))  # fmt: skip


def test_machines_add_up_among_their_devices_first() -> None:
    assert cluster(4).all_reduce_s(400) == FAST.all_reduce_s(400, 4)
    inside = 3 * 0.5 + 0.75 * 400 / 100
    assert cluster(4, 2).all_reduce_s(400) == 2 * inside + SLOW.all_reduce_s(400, 2)
    assert cluster(1, 2).all_reduce_s(400) == SLOW.all_reduce_s(400, 2)


def test_buckets_travel_one_after_the_other_while_the_pass_goes_on() -> None:
    # Two devices: 400 bytes take 2 * 0.5 + 400 / 100 = 5 s, 100 bytes take 2 s.
    step = Step(100.0, [Bucket(400, 20.0), Bucket(100, 16.0), Bucket(400, 3.0)])
    found = forecast(step, cluster(2))
    # From -20 to -15; from -15 to -13; from -3 to 2.
    assert (found.all_reduce_s, found.waited_s, found.step_s) == (12, 2, 102)
    assert found.hidden == pytest.approx(10 / 12)
    assert found.speedup == pytest.approx(2 * 100 / 102)
    late = Step(100.0, [Bucket(400, 1.0), Bucket(100, 1.0)])
    assert forecast(late, cluster(2)).waited_s == 6  # the second waits for the first
    early = Step(100.0, [Bucket(400, 50.0)])
    assert forecast(early, cluster(2)).hidden == 1


def test_copies_and_decisions_come_on_top() -> None:
    step = Step(100.0, [Bucket(400, 50.0)])
    told = Cluster(2, 3, FAST, SLOW, Link(1.0, 0.01), copied_bytes_s=200.0)
    found = forecast(step, told)
    assert found.copied_s == 2
    assert found.decided_s == pytest.approx(5 * 0.01)
    assert found.step_s == pytest.approx(100 + found.waited_s + 2 + 0.05)


def test_decisions_that_were_measured_count_as_they_are() -> None:
    step = Step(100.0, [Bucket(400, 50.0)], decided_s=7.0)
    found = forecast(step, Cluster(2, 3, FAST, SLOW, Link(1.0, 0.01), copied_bytes_s=200.0))
    assert found.decided_s == 7
    assert found.step_s == pytest.approx(100 + found.waited_s + 2 + 7)


def test_one_process_talks_to_nobody() -> None:
    step = Step(100.0, [Bucket(400, 0.0)])
    assert forecast(step, cluster(1)).step_s == 100
    assert forecast(step, cluster(1), alone_s=80).speedup == 0.8
    assert forecast(step, cluster(1)).hidden == 1


def test_processes_share_cores() -> None:
    step = Step(180.0, [Bucket(400, 170.0)], core_s=90.0)
    busy = Link(100.0, 0.5, core_s=0.1)
    shared = Cluster(4, 1, busy, busy, NOTHING, float("inf"), cores=2)
    # Each of four works 90 s, and 0.1 s for each of 2 * 3/4 * 400 bytes, on two cores.
    assert forecast(step, shared).step_s == pytest.approx(4 * (90 + 60) / 2)
    waiting = replace(step, decided_s=20.0)  # for the slowest: others do not work meanwhile
    assert forecast(waiting, shared).step_s == pytest.approx(4 * (90 + 60) / 2 + 20)
    some = Cluster(4, 1, busy, busy, NOTHING, float("inf"), cores=3)
    assert forecast(step, some).step_s == pytest.approx(180 + 4 * 60 / 3 - (180 - 4 * 90 / 3))
    enough = Cluster(4, 1, busy, busy, NOTHING, float("inf"), cores=16)
    assert forecast(step, enough).step_s == 180
    assert forecast(step, shared, alone_s=75).speedup == pytest.approx(4 * 75 / 300)


def test_a_divided_batch_does_the_work_of_one() -> None:
    step = Step(25.0, [Bucket(400, 20.0)])
    assert forecast(step, cluster(4), alone_s=100, share=0.25).speedup == 4
