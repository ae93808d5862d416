"""Job counts: bounded by cores and memory, never less than one, and the reason says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tritonbuild.plan.jobs import count_jobs

sizes = st.integers(1, 1 << 40)
cores = st.integers(1, 256)


def count(cores, memory, per_job, wanted=None):
    job = count_jobs("core", cores=cores, memory=memory, memory_per_job=per_job, wanted=wanted)
    return job.count


def test_board_with_eight_cores_and_8_gib_runs_three_compilers_of_2_gib():
    job = count_jobs("core", cores=8, memory=8 << 30, memory_per_job=2 << 30, wanted=None)
    assert job.count == 3
    assert job.reason == (
        "8 cores; 8 GiB memory less 1 GiB for the system, at 2 GiB a job, is room for 3"
    )


@given(cores, sizes, sizes)
def test_count_is_between_one_and_the_cores(cores, memory, per_job):
    assert 1 <= count(cores, memory, per_job) <= cores


@given(cores, sizes, sizes, sizes, st.integers(0, 8))
def test_more_of_anything_never_means_fewer(cores, memory, per_job, more, extra):
    assert count(cores, memory + more, per_job) >= count(cores, memory, per_job)
    assert count(cores + extra, memory, per_job) >= count(cores, memory, per_job)
    assert count(cores, memory, per_job + more) <= count(cores, memory, per_job)


@given(cores, sizes, sizes, st.integers(1, 1000))
def test_what_the_user_wants_is_taken(cores, memory, per_job, wanted):
    assert count(cores, memory, per_job, wanted) == wanted
