"""The ideal queue that real ones are held against."""

import pytest
from bench.fifo import Job, ideal_sojourns, poisson_jobs


def test_a_free_server_takes_a_job_at_once():
    assert ideal_sojourns([Job(0.0, 1.0), Job(0.5, 1.0)], servers=2) == [1.0, 1.0]


def test_a_job_waits_for_the_server_that_is_free_first():
    jobs = [Job(0.0, 3.0), Job(0.0, 1.0), Job(0.5, 1.0)]
    assert ideal_sojourns(jobs, servers=2) == [3.0, 1.0, 1.5]


def test_one_server_works_in_the_order_of_arrival():
    assert ideal_sojourns([Job(0.0, 2.0), Job(1.0, 2.0), Job(1.0, 2.0)], servers=1) == [2.0, 3.0, 5.0]


def test_jobs_come_at_the_rate_that_makes_the_load():
    jobs = poisson_jobs(1, 20_000, servers=4, load=0.7, short_s=0.005, long_s=0.1, long_share=0.1)
    work_s = sum(job.service_s for job in jobs)
    assert work_s / (4 * jobs[-1].arrival_s) == pytest.approx(0.7, rel=0.05)
    assert sum(job.service_s == 0.1 for job in jobs) / len(jobs) == pytest.approx(0.1, rel=0.1)


def test_the_same_seed_gives_the_same_jobs():
    first, second = (poisson_jobs(7, 100, 4, 0.7, 0.005, 0.1, 0.1) for _ in range(2))
    assert first == second
    assert first != poisson_jobs(8, 100, 4, 0.7, 0.005, 0.1, 0.1)
