"""How many compilers may run at once: cores and memory decide, and the reason is kept."""

from __future__ import annotations

from tritonbuild.plan.model import JobCount

# What the system and the linker's file cache keep for themselves.
RESERVED_MEMORY = 1 << 30


def count_jobs(
    component: str, *, cores: int, memory: int, memory_per_job: int, wanted: int | None
) -> JobCount:
    """Return the job count of a component on a machine.

    Args:
        component: Whose compilers they are.
        cores: Usable cores.
        memory: Memory of the machine, in bytes.
        memory_per_job: Memory that one compiler may take, in bytes.
        wanted: What the user asked for; taken as it is.
    """
    if wanted is not None:
        return JobCount(component, wanted, "--jobs", memory_per_job)
    by_memory = max(1, (memory - RESERVED_MEMORY) // memory_per_job)
    count = min(cores, by_memory)
    reason = (
        f"{cores} cores; {format_size(memory)} memory less {format_size(RESERVED_MEMORY)} for the "
        f"system, at {format_size(memory_per_job)} a job, is room for {by_memory}"
    )
    return JobCount(component, count, reason, memory_per_job)


def format_size(size: int) -> str:
    """Return bytes as GiB or MiB."""
    if size >= 1 << 30:
        return f"{size / (1 << 30):.3g} GiB"
    return f"{size / (1 << 20):.3g} MiB"
