"""How a check is getting on, while it runs: on standard error, so that the verdict can be piped.

On a terminal one line is written over and over; elsewhere a new one every few seconds.
"""

import shutil
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import click
import trio

_ON_TERMINAL: Final = 0.25
_ELSEWHERE: Final = 5.0
_ERASE_LINE: Final = "\r\x1b[K"


class Display:
    """Shows a status line, and other lines beside it. `is_verbose` lets `tell` speak.

    `describe` is replaced by whoever knows how the check is getting on.
    """

    def __init__(self, *, is_verbose: bool) -> None:
        self.describe: Callable[[], str] = lambda: "connecting"
        self._is_terminal = sys.stderr.isatty()
        self._is_verbose = is_verbose
        self._shown = ""

    async def run(self) -> NoReturn:
        """Show what `describe` returns, from time to time, until cancelled."""
        try:
            while True:
                await trio.sleep(_ON_TERMINAL if self._is_terminal else _ELSEWHERE)
                self._show(self.describe())
        finally:
            self._show("")

    def tell(self, line: str) -> None:
        """Write a line of its own, if such are wanted."""
        if self._is_verbose:
            shown, self._shown = self._shown, ""
            click.echo(_ERASE_LINE + line if shown else line, err=True)
            if shown:
                self._show(shown)

    def _show(self, status: str) -> None:
        if not self._is_terminal:
            if status:
                click.echo(status, err=True)
            return
        width = shutil.get_terminal_size().columns
        if status or self._shown:
            click.echo(_ERASE_LINE + status[: width - 1], err=True, nl=False)
        self._shown = status
