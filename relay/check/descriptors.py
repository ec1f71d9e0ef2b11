"""As many descriptors as a load takes."""

import resource

from relay.check.errors import CheckError


def allow_descriptors(needed: int) -> None:
    """Raise the limit of this process to `needed`, or raise `CheckError` where that is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    within = needed if hard == resource.RLIM_INFINITY else max(needed, hard)
    try:
        # beyond the hard limit only root may go
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, within))
    except (ValueError, OSError) as error:
        raise CheckError(
            f"so many connections need {needed:,} descriptors, and {hard:,} are allowed: raise the"
            " limit (`ulimit -n`) or ask for fewer"
        ) from error
