"""The memory and descriptors of a process that is to run for long."""

import gc
import resource


def settle() -> None:
    """Have the collector leave alone what is there at the start, for it stays for ever."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: each session has two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
