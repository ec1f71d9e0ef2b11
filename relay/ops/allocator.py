"""Who manages the memory of Python's objects: Python itself, or the C library.

Python takes memory in pieces of a megabyte, and gives one back when nothing in it lives. Of 5,000
connections something always does: of 225 MB, 122 stayed when they had left (53 before). The C
library gives back single pages: 60 of 232 stayed (55 before). It is slower, though: an event costs
3 to 11 % more processor time, so that is a choice.

Python decides by an environment variable when it starts. So the program starts itself anew, in the
same process and with the same arguments, before anything else is done.
"""

import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Final, NoReturn

from relay.ops.config import Allocator

_VARIABLE: Final = "PYTHONMALLOC"
_SYSTEM: Final = "malloc"


def choose(
    allocator: Allocator,
    environment: MutableMapping[str, str] = os.environ,
    start_anew: Callable[[str, list[str]], NoReturn] = os.execv,
) -> None:
    """Go on with this allocator: return if it is in use, else start the program anew.

    What an operator has set in the environment for Python stays as it is.
    """
    if allocator != "system":
        return
    if environment.get(_VARIABLE) == _SYSTEM:
        # the companions hold little, and are the faster without
        del environment[_VARIABLE]
    elif _VARIABLE not in environment:
        environment[_VARIABLE] = _SYSTEM
        start_anew(sys.executable, [sys.executable, *sys.orig_argv[1:]])
