"""The parameters of a notebook: read from its cell tagged `parameters`, and checked before anything runs.

papermill only warns about a misspelt name and passes any type on; a sweep of a night deserves better. The notebook's
own cell is the one declaration: names, annotated types, literal defaults, and a comment that describes each.
"""

import ast
import difflib
import io
import re
import tokenize
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml


class ParameterError(ValueError):
    """A parameter that the notebook does not have, or a value that does not fit its type."""


@dataclass(frozen=True)
class Parameter:
    name: str
    type: object  # a class, a generic such as list[int], a union; None where neither annotation nor default tells
    default: object
    help: str = ""

    @property
    def type_name(self) -> str:
        if self.type is None:
            return "any"
        return self.type.__name__ if type(self.type) is type else str(self.type)


TYPES = {t.__name__: t for t in (int, float, str, bool, list, tuple, dict)}


def read_parameters(source: str, *, where: str = "the parameters cell") -> dict[str, Parameter]:
    """The parameters that a cell declares, in its order.

    source  the cell's Python text: assignments of literals, `gap: float = 1.0  # strength of camera differences`.
    Raises ParameterError for anything else (a computed default would not be computed again after an injection).
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(f"{where}, line {error.lineno}: {error.msg}") from None
    comments = {
        token.start[0]: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = {}
    for statement in statements:
        try:
            annotation = None
            if isinstance(statement, ast.AnnAssign):
                target = statement.target
                code = compile(ast.Expression(statement.annotation), where, "eval")
                annotation = eval(code, {"__builtins__": {}}, TYPES)
                if isinstance(annotation, str):
                    raise TypeError
            else:
                (target,) = statement.targets  # AttributeError: not an assignment
            name, default = target.id, ast.literal_eval(statement.value)
        except (AttributeError, ValueError, TypeError, NameError):
            line = ast.get_source_segment(source, statement).splitlines()[0]
            raise ParameterError(
                f"{where}, line {statement.lineno}: {line!r} is not `name: type = literal`; "
                f"types are made of {', '.join(TYPES)}, | and None"
            ) from None
        if annotation is None and default is not None:
            annotation = type(default)
        parameters[name] = Parameter(name, annotation, default, comments.get(statement.end_lineno, ""))
    return parameters


def check_parameters(given: Mapping, parameters: Mapping[str, Parameter], *, where: str = "the notebook") -> dict:
    """`given` with every value fitted to its declared type (an int becomes a float where a float is declared).

    Raises ParameterError that names the nearest parameter for an unknown name, and both types for a wrong one.
    """
    fitted = {}
    for name, value in given.items():
        if name not in parameters:
            near = difflib.get_close_matches(str(name), parameters, n=1)
            hint = f"did you mean {near[0]!r}? It" if near else "it"
            raise ParameterError(f"{where} has no parameter {name!r}; {hint} has: {', '.join(parameters)}")
        parameter = parameters[name]
        try:
            fitted[name] = _fit(value, parameter.type)
        except TypeError:
            raise ParameterError(
                f"parameter {name!r} of {where} is {parameter.type_name} (default {parameter.default!r}); "
                f"got {value!r}, {type(value).__name__}"
            ) from None
    return fitted


def _fit(value: object, kind: object) -> object:
    """`value` as `kind`, or TypeError. A bool is no number, a float no int; an int is a float."""
    if kind is None:
        return value
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        for option in inner:
            try:
                return _fit(value, option)
            except TypeError:
                continue
        raise TypeError
    if kind is float and type(value) is int:
        return float(value)
    expected = origin or kind
    if expected is tuple and type(value) is list:  # YAML has no tuples
        value = tuple(value)
    if type(value) is not expected:
        raise TypeError
    if origin is dict:
        return {_fit(key, inner[0]): _fit(item, inner[1]) for key, item in value.items()}
    if origin is tuple and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            raise TypeError
        return tuple(_fit(item, option) for item, option in zip(value, inner, strict=True))
    if origin in (list, tuple):
        return origin(_fit(item, inner[0]) for item in value)
    return value


def parse_value(text: str, parameter: Parameter | None = None) -> object:
    """A value typed on the command line: YAML, or the text itself where only a str fits (`-p name 007`)."""
    try:
        value = yaml.load(text, Loader=StrictLoader)
        _fit(value, parameter and parameter.type)
        return value
    except yaml.YAMLError:
        return text
    except TypeError:
        try:
            return _fit(text, parameter.type)
        except TypeError:
            return value


def read_yaml(text: str, *, where: str) -> dict:
    """A YAML mapping, read strictly. Raises ParameterError naming `where` and the line."""
    try:
        value = yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ParameterError(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ParameterError(f"{where}: expected `name: value` lines, got {type(value).__name__}")
    return value


def read_yaml_file(path: str | Path) -> dict:
    try:
        return read_yaml(Path(path).read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


class StrictLoader(yaml.SafeLoader):
    """YAML 1.2's scalars: `1e-4` is a number, `on` and `no` are words, `1:30` is no sexagesimal; a key stands once."""

    yaml_implicit_resolvers: typing.ClassVar = {}

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, dict | list | set):
                problem = f"a name must be a word, not a {type(name).__name__} (an unfilled template?)"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|None|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
