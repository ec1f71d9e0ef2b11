"""From a file, the environment and flags to one `Config`; what is wrong is named with its place.

Three layers, of which a later one wins: a TOML file, environment variables (`RELAY_…`), flags. Each
layer is checked in whole, also where a later one overrides it: a file with a mistake is a mistake.
Unknown names are refused, because a misspelt limit would otherwise be no limit.
"""

import difflib
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import inspect

from relay.errors import ConfigurationError
from relay.ops.config import LIMIT_BOUNDS, SECRET_SETTINGS, Config
from relay.protocol.limits import Limits

ENVIRONMENT_PREFIX: Final = "RELAY_"
FILE_VARIABLE: Final = "RELAY_CONFIG"
"""The environment variable that names the configuration file."""
NOTHING: Final = "none"
"""How a number that may be absent is written when it shall be: TOML has no null."""

_LONGEST_SHOWN_VALUE: Final = 60


class Setting(NamedTuple):
    """One setting, as its definition says."""

    path: str
    """Its name with its section, such as `limits.max_limit`."""
    field: str
    """The attribute's name in its section's class."""
    owner: type[msgspec.Struct]
    """The class that defines it."""
    type: Any
    """Its type, with its bounds."""
    default: object

    @property
    def section(self) -> str:
        """The section's name; empty at the top."""
        return self.path.rpartition(".")[0]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()

    @property
    def expectation(self) -> str:
        """What a value must be, in words."""
        return _describe(inspect.type_info(self.type))


class Mistake(NamedTuple):
    """One thing that is wrong: where, and what would be right."""

    where: str
    what: str

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.where}: {self.what}"


class Loaded(NamedTuple):
    """The outcome of reading: a configuration, or the mistakes that forbid it."""

    config: Config | None
    mistakes: list[Mistake]


class _Given(NamedTuple):
    value: object
    where: str


def _settings_of(owner: type[msgspec.Struct], section: str) -> Iterator[Setting]:
    for field in msgspec.structs.fields(owner):
        path = f"{section}{field.encode_name}"
        if isinstance(field.default, msgspec.Struct):
            yield from _settings_of(type(field.default), f"{path}.")
        else:
            kind = _bounded(field.type, field.name) if owner is Limits else field.type
            yield Setting(path, field.name, owner, kind, field.default)


def _bounded(kind: Any, name: str) -> Any:  # noqa: ANN401 - a type form has no better type
    """Return the type of a field of `Limits` with its bounds."""
    if name not in LIMIT_BOUNDS:
        return kind
    bounds = LIMIT_BOUNDS[name]
    if isinstance(kind, types.UnionType):
        return Annotated[int, bounds] | None
    return Annotated[kind, bounds]


SETTINGS: Final[dict[str, Setting]] = {
    setting.path: setting for setting in _settings_of(Config, "")
}
"""Every setting by its path, in the order of definition."""

SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    setting.section: setting.owner for setting in SETTINGS.values()
}
"""The class of each section, by its name; the top's name is empty."""


def load(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Return the configuration. `flags` maps a setting's path to its value; `None` is not given.

    Raises `ConfigurationError`, whose text is one line: the first mistake, and how many there are.
    """
    config, mistakes = read(file, environment, flags)
    if config is not None:
        return config
    more = len(mistakes) - 1
    hint = f" (and {more} more: see `relay check config`)" if more else ""
    raise ConfigurationError(f"{mistakes[0]}{hint}")


def read(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Return the configuration, or every mistake that was found in any layer."""
    mistakes: list[Mistake] = []
    given: dict[str, _Given] = {}
    if file is not None:
        given.update(_from_file(file, mistakes))
    given.update(_from_environment(environment, mistakes))
    given.update(_from_flags(flags or {}, mistakes))
    if not mistakes:
        mistakes.extend(_contradictions(given))
    return Loaded(None if mistakes else _build(given), mistakes)


def _build(given: Mapping[str, _Given]) -> Config:
    values: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for path, (value, _) in given.items():
        setting = SETTINGS[path]
        values[setting.section][setting.field] = value
    sections = {section: owner(**values[section]) for section, owner in SECTIONS.items() if section}
    return msgspec.structs.replace(Config(), **values[""], **sections)


def _contradictions(given: Mapping[str, _Given]) -> Iterator[Mistake]:
    """Find values that are right by themselves and wrong together."""
    default_limit, max_limit = (
        given.get(path, _Given(SETTINGS[path].default, ""))
        for path in ("limits.default_limit", "limits.max_limit")
    )
    if typing.cast("int", default_limit.value) > typing.cast("int", max_limit.value):
        yield Mistake(
            default_limit.where or max_limit.where,
            f"limits.default_limit ({default_limit.value}) must not be more than "
            f"limits.max_limit ({max_limit.value})",
        )


# --- The file


def _from_file(file: Path, mistakes: list[Mistake]) -> Iterator[tuple[str, _Given]]:
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        mistakes.append(Mistake(str(file), f"cannot be read: {error.strerror}"))
        return
    except UnicodeDecodeError:
        mistakes.append(Mistake(str(file), "is not UTF-8 text"))
        return
    except tomllib.TOMLDecodeError as error:
        mistakes.append(Mistake(str(file), f"is not TOML: {error}"))
        return

    def place(path: str) -> str:
        line = _line_of(path, text)
        return f"{file}:{line}: {path}" if line else f"{file}: {path}"

    yield from _from_table(table, "", place, mistakes)


def _from_table(
    table: Mapping[str, object], section: str, place: Callable[[str], str], mistakes: list[Mistake]
) -> Iterator[tuple[str, _Given]]:
    for name, value in table.items():
        path = f"{section}.{name}" if section else name
        if path in SETTINGS:
            yield from _checked(path, value, place(path), mistakes)
        elif path not in SECTIONS:
            mistakes.append(Mistake(place(path), _unknown(path, name, SETTINGS)))
        elif isinstance(value, dict):
            yield from _from_table(value, path, place, mistakes)
        else:
            what = f"must be a table, [{path}], not {_shown(value)}"
            mistakes.append(Mistake(place(path), what))


def _line_of(path: str, text: str) -> int | None:
    """Return the line (from 1) on which the value at `path` begins.

    The text is parsed line by line as it grows, so whatever TOML allows (dotted keys, several lines
    for one value) is understood as the parser does. That is slow, and only done for mistakes.
    """
    lines = text.splitlines(keepends=True)
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            table: object = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a value of several lines
        for name in path.split("."):
            table = table.get(name) if isinstance(table, dict) else None
        if table is not None:
            return begin + 1
        begin = end
    return None


# --- The environment and the flags


def _from_environment(
    environment: Mapping[str, str], mistakes: list[Mistake]
) -> Iterator[tuple[str, _Given]]:
    paths = {setting.variable: setting.path for setting in SETTINGS.values()}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == FILE_VARIABLE:
            continue
        if variable in paths:
            yield from _checked(paths[variable], text, variable, mistakes, is_text=True)
        else:
            mistakes.append(Mistake(variable, _unknown(variable, variable, paths)))


def _from_flags(
    flags: Mapping[str, object], mistakes: list[Mistake]
) -> Iterator[tuple[str, _Given]]:
    for path, value in flags.items():
        if value is not None:
            yield from _checked(path, value, flag_of(path), mistakes)


def flag_of(path: str) -> str:
    """Return the flag that sets `path`, if there is one: `logging.level` is `--log-level`."""
    return "--" + path.replace("logging.", "log-").replace("_", "-")


# --- One value


def _checked(
    path: str, value: object, where: str, mistakes: list[Mistake], *, is_text: bool = False
) -> Iterator[tuple[str, _Given]]:
    """Yield the value in its type, or note why it cannot be."""
    setting = SETTINGS[path]
    if isinstance(value, str) and not _is_unicode(value):
        mistakes.append(Mistake(where, "is not UTF-8 text"))
        return
    members = typing.get_args(setting.type)
    if value == NOTHING and type(None) in members and not _is_textual(setting.type):
        yield path, _Given(None, where)
        return
    try:
        if is_text and _is_compound(setting.type):
            converted = msgspec.json.decode(typing.cast("str", value), type=setting.type)
        else:
            converted = msgspec.convert(value, setting.type, strict=not is_text)
    except msgspec.ValidationError as error:
        what, _, inside = str(error).partition(" - at `$")
        if inside:
            mistakes.append(Mistake(where + inside.rstrip("`"), what.lower().replace("`", "")))
        else:
            what = f"must be {setting.expectation}"
            if path not in SECRET_SETTINGS:
                what += f", not {_shown(value)}"
            mistakes.append(Mistake(where, what))
    except msgspec.DecodeError as error:
        mistakes.append(Mistake(where, f"is not JSON: {error}"))
    else:
        yield path, _Given(converted, where)


def _is_unicode(text: str) -> bool:
    # Bytes from outside that are not UTF-8 come as lone surrogates, which nothing can send on.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_compound(kind: Any) -> bool:  # noqa: ANN401 - a type form has no better type
    compound = (inspect.StructType, inspect.DictType, inspect.VarTupleType)
    return any(isinstance(member, compound) for member in _members(kind))


def _is_textual(kind: Any) -> bool:  # noqa: ANN401 - a type form has no better type
    return any(isinstance(member, inspect.StrType) for member in _members(kind))


def _members(kind: Any) -> Iterator[inspect.Type]:  # noqa: ANN401 - a type form has no better type
    info = inspect.type_info(kind)
    for member in info.types if isinstance(info, inspect.UnionType) else (info,):
        yield member.type if isinstance(member, inspect.Metadata) else member


def _unknown(path: str, name: str, known: Mapping[str, object]) -> str:
    """Say that a setting does not exist, and which one may have been meant."""
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.75)
    if not near:
        # The right name in the wrong section.
        by_name = {other.rpartition(".")[2]: other for other in known}
        near = [by_name[found] for found in difflib.get_close_matches(name, by_name, n=1)]
    return "there is no such setting" + (f"; did you mean {near[0]}?" if near else "")


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = msgspec.json.encode(value).decode()
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > _LONGEST_SHOWN_VALUE:
        return text[: _LONGEST_SHOWN_VALUE - 1] + "…"
    return text


def _describe(info: inspect.Type) -> str:
    """Say in words what a value of this type is."""
    match info:
        case inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case inspect.UnionType(types=members):
            words = [
                _describe(member) for member in members if type(member) is not inspect.NoneType
            ]
            if len(words) < len(members) and not any(
                isinstance(member, inspect.StrType | inspect.Metadata | inspect.StructType)
                for member in members
            ):
                words.append(f'"{NOTHING}"')
            return " or ".join(words)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return "a whole number" + _range(low, high)
        case inspect.FloatType(ge=low, le=high):
            return "a number" + _range(low, high)
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.StructType(cls=owner):
            return f"a table of {owner.__name__.lower()}"
        case inspect.VarTupleType(item_type=item):
            return f"a list; each of it is {_describe(item)}"
        case inspect.DictType(key_type=key, value_type=value):
            return f"a table from {_describe(key)} to {_describe(value)}"
        case _:
            return "text"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return "" if low is None else f" of at least {low}"
