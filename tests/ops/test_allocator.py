import os
import sys
from pathlib import Path

import pytest

from relay.ops.allocator import choose
from tests.served import client, process_tree, served_relay
from tests.session.serving import notes


class StartedAnew(Exception):
    pass


def starting(program: str, arguments: list[str]) -> None:
    assert program == sys.executable
    assert arguments == [sys.executable, *sys.orig_argv[1:]]
    raise StartedAnew


def test_the_program_starts_anew_for_the_systems_allocator_and_only_once() -> None:
    environment: dict[str, str] = {}
    with pytest.raises(StartedAnew):
        choose("system", environment, starting)  # type: ignore[arg-type]  # it does not return
    choose("system", environment, starting)  # type: ignore[arg-type]
    assert environment == {}, "the companions do not need it"


@pytest.mark.parametrize("given", [{}, {"PYTHONMALLOC": "malloc"}, {"PYTHONMALLOC": "debug"}])
def test_pythons_own_allocator_needs_nothing(given: dict[str, str]) -> None:
    environment = dict(given)
    choose("python", environment, starting)  # type: ignore[arg-type]
    assert environment == given


def test_what_is_set_for_python_stays() -> None:
    environment = {"PYTHONMALLOC": "debug"}
    choose("system", environment, starting)  # type: ignore[arg-type]
    assert environment == {"PYTHONMALLOC": "debug"}


def environment_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def test_a_relay_with_the_systems_allocator_is_one_process_as_ever(tmp_path: Path) -> None:
    with served_relay(tmp_path, config='allocator = "system"\nverifiers = 0') as relay:
        assert b"PYTHONMALLOC=malloc" in environment_of(relay.pid)
        _, writer = process_tree(relay.pid)
        assert b"PYTHONMALLOC=malloc" not in environment_of(writer)
        async with client(relay.url) as one:
            await one.accept(*notes(3))
            assert await one.count({}) == 3
        assert relay.terminate() == 0
    assert "PYTHONMALLOC" not in os.environ
