"""Waits grow with failures, and rates are kept, without ever locking anybody out for good."""

import pytest

from kohakuriver.errors import TooMany
from kohakuriver.host.throttle import Attempts, Buckets, Throttle, network


def waits(throttle, key, now):
    try:
        throttle.check(key, now)
    except TooMany as error:
        return error.retry_after
    return 0


def test_five_failures_are_free_and_then_the_wait_doubles_up_to_fifteen_minutes():
    throttle, now, seen = Throttle(free=5), 0.0, []
    for _ in range(18):
        throttle.failed("anna", now)
        seen.append(waits(throttle, "anna", now))
        now += seen[-1]
        assert waits(throttle, "anna", now) == 0
    assert seen == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]


def test_a_success_forgets_the_failures_and_so_does_an_hour():
    throttle = Throttle(free=1)
    throttle.failed("anna", 0)
    throttle.succeeded("anna")
    assert waits(throttle, "anna", 0) == 0
    throttle.failed("anna", 0)
    throttle.failed("anna", 4000)
    assert waits(throttle, "anna", 4000) == 1


def test_another_account_of_the_neighbourhood_waits_only_after_many_failures():
    attempts = Attempts()
    for number in range(19):
        attempts.failed(f"user{number}", "192.0.2.7", 0)
    attempts.check("anna", "192.0.2.8", 0)
    attempts.failed("user20", "192.0.2.7", 0)
    with pytest.raises(TooMany):
        attempts.check("anna", "192.0.2.8", 0)
    attempts.check("anna", "198.51.100.1", 0)


def test_the_memory_of_failures_is_bounded():
    throttle = Throttle(free=0, most_keys=10)
    for number in range(100):
        throttle.failed(str(number), 0)
    assert len(throttle._failures) == 10


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Buckets(rate=2, burst=3)
    for _ in range(3):
        bucket.take("a", 0)
    with pytest.raises(TooMany):
        bucket.take("a", 0)
    bucket.take("b", 0)
    bucket.take("a", 0.5)
    with pytest.raises(TooMany):
        bucket.take("a", 0.5)


def test_a_rate_of_zero_is_no_limit():
    bucket = Buckets(rate=0, burst=1)
    for _ in range(1000):
        bucket.take("a", 0)


@pytest.mark.parametrize(
    ("address", "neighbourhood"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::/64"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_neighbourhoods(address, neighbourhood):
    assert network(address) == neighbourhood
