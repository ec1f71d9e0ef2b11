"""The relay's own key: from the configuration, a file that it names, or one beside the store.

The file holds the secret as 64 hexadecimal digits. At the first start it is made with a new random
key, readable by its owner alone from its first byte on. A file that others may read is refused: its
key must be taken for known. The secret is written nowhere else: not into a log, not into a message.
"""

import os
import stat
from pathlib import Path
from typing import Final

from relay.errors import ConfigurationError
from relay.ops.config import Config
from relay.protocol.identity import Identity

_SUFFIX: Final = ".key"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def own_identity(config: Config) -> Identity:
    """Return the relay's identity; make its key, if there is none yet.

    With a store in memory and no key configured it is a new one at each start. Raises
    `ConfigurationError` when the key's file cannot be used.
    """
    if config.secret_key is not None:
        return _identity(config.secret_key, "secret_key")
    path = key_path(config)
    if path is None:
        return Identity.fresh()
    try:
        return _identity(_read(path), str(path))
    except FileNotFoundError:
        return _made(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: the relay's key cannot be read: {error}") from error


def key_path(config: Config) -> Path | None:
    """Return where the key is kept if it is not in the configuration; `None`: nowhere."""
    if config.secret_key_file is not None:
        return Path(config.secret_key_file).expanduser().absolute()
    store = config.store_path
    return None if store is None else store.with_name(store.name + _SUFFIX)


def _read(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & _OTHERS:
            raise ConfigurationError(
                f"{path}: others can read the relay's key (mode {mode & 0o777:03o}); if nobody"
                f" has: chmod 600 {path}"
            )
        return file.read(1024).strip()


def _identity(secret: str, where: str) -> Identity:
    try:
        return Identity(bytes.fromhex(secret))
    except ValueError:
        # without its cause, which might quote the secret
        raise ConfigurationError(f"{where}: this is no secret key in hexadecimal digits") from None


def _made(path: Path) -> Identity:
    """Make the file. Of two relays that start at once both have the key of one."""
    secret = os.urandom(32).hex()
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secret + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                # whole or not at all, and never over another one
                os.link(draft, path)
            except FileExistsError:
                secret = _read(path)
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path}: the relay's key cannot be kept: {error}") from error
    return _identity(secret, str(path))
