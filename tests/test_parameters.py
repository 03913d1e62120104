import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.parameters import ParameterError, check_parameters, parse_value, read_parameters, read_yaml

CELL = """
# all that may stand in such a cell
profile: str = "demo"  # smoke or demo
gap: float = 1.0  # how much cameras differ
seeds: list[int] = [0, 1]
flip: bool = True
note: str | None = None
size: tuple[int, int] = (64, 32)  # height, width
margins: dict[str, float] = {"hard": 0.3}
rows: list = [
    "a",  # the first
    "b",
]  # which rows
steps = 200
"""


@pytest.fixture(scope="module")
def declared():
    return read_parameters(CELL)


def test_names_types_defaults_comments(declared):
    assert list(declared) == ["profile", "gap", "seeds", "flip", "note", "size", "margins", "rows", "steps"]
    assert (declared["gap"].type_name, declared["gap"].default, declared["gap"].help) == (
        "float",
        1.0,
        "how much cameras differ",
    )
    assert declared["seeds"].type_name == "list[int]"
    assert declared["seeds"].help == ""
    assert declared["steps"].type_name == "int"  # from its default
    assert declared["rows"].help == "which rows"


@pytest.mark.parametrize(
    "line", ["twice: int = 2 * gap", "import os", "a, b = 1, 2", "x: Tensor = 1", "f()", "x: 'int' = 1", "x: int"]
)
def test_only_typed_literals(line):
    with pytest.raises(ParameterError, match="line 2"):
        read_parameters(f"gap: float = 1.0\n{line}")


def test_syntax_error_is_named():
    with pytest.raises(ParameterError, match="line 1"):
        read_parameters("gap: float = = 1", where="the cell")


@pytest.mark.parametrize(
    ("name", "value", "fitted"),
    [
        ("gap", 0.5, 0.5),
        ("gap", 1, 1.0),
        ("seeds", [], []),
        ("flip", False, False),
        ("note", None, None),
        ("note", "on", "on"),
        ("size", [128, 64], (128, 64)),
        ("margins", {"hard": 1}, {"hard": 1.0}),
        ("rows", [1, "x"], [1, "x"]),
    ],
)
def test_values_that_fit(declared, name, value, fitted):
    got = check_parameters({name: value}, declared)[name]
    assert got == fitted
    assert type(got) is type(fitted)


@pytest.mark.parametrize(
    ("name", "value", "kinds"),
    [
        ("gap", "wide", ("float", "str")),
        ("gap", True, ("float", "bool")),
        ("gap", None, ("float", "NoneType")),
        ("steps", 1.5, ("int", "float")),
        ("steps", True, ("int", "bool")),
        ("flip", 1, ("bool", "int")),
        ("seeds", 3, ("list", "int")),
        ("seeds", [0, 1.5], ("list", "list")),
        ("size", [64], ("tuple", "list")),
        ("note", 3, ("str | None", "int")),
        ("margins", {"hard": "x"}, ("dict", "dict")),
        ("profile", 1, ("str", "int")),
    ],
)
def test_wrong_type_names_both(declared, name, value, kinds):
    with pytest.raises(ParameterError) as refusal:
        check_parameters({name: value}, declared, where="03_x")
    message = str(refusal.value)
    assert repr(name) in message
    assert kinds[0] in message
    assert message.endswith(f"{value!r}, {kinds[1]}")


def test_unknown_name_gets_the_nearest(declared):
    with pytest.raises(ParameterError, match=r"03_x has no parameter 'gpa'; did you mean 'gap'\?.*steps"):
        check_parameters({"gpa": 1.0}, declared, where="03_x")
    with pytest.raises(ParameterError, match="no parameter 'zzzz'; it has: profile"):
        check_parameters({"zzzz": 1.0}, declared)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("-3", -3),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("true", True),
        ("None", None),
        ("null", None),
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1e", "1e"),
        ("[0, 1e-3]", [0, 1e-3]),
        ("{a: 1}", {"a": 1}),
        ("-.inf", -math.inf),
        ("[open", "[open"),
    ],
)
def test_scalars(text, value):
    got = parse_value(text)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("text", ["007", "1e-4", "true", "[x]", "plain"])
def test_text_for_a_str_stays_text(declared, text):
    assert parse_value(text, declared["profile"]) == text


def test_a_wrong_value_stays_what_it_reads_as(declared):
    assert parse_value("0.5", declared["steps"]) == 0.5  # refused later, as the float that it is
    assert parse_value("None", declared["note"]) is None


@given(st.floats(allow_nan=False))
def test_every_float_survives_the_command_line(value):
    text = repr(value).replace("inf", ".inf")
    assert parse_value(text) == value


@given(st.integers())
def test_every_int_survives_the_command_line(value):
    assert parse_value(str(value)) == value


def test_yaml_is_strict():
    assert read_yaml("lr: 1e-4\nseeds: [0, 1]\n", where="f") == {"lr": 1e-4, "seeds": [0, 1]}
    assert read_yaml("# nothing\n", where="f") == {}
    with pytest.raises(ParameterError, match="f, line 2: 'gap' stands twice"):
        read_yaml("gap: 1\ngap: 2\n", where="f")
    with pytest.raises(ParameterError, match="f: expected"):
        read_yaml("- 1\n", where="f")
    with pytest.raises(ParameterError, match="f, line 3: expected the node"):
        read_yaml("a: 1\nb: [\n", where="f")


@pytest.mark.parametrize("text", ["seeds: {{ seeds }}", "? [1, 2]\n: 3"])
def test_a_name_that_is_no_word_is_refused_with_its_line(text):
    with pytest.raises(ParameterError, match=r"f, line 1: a name must be a word, not a (dict|list)"):
        read_yaml(text, where="f")
    assert parse_value("{[1]: 2}", read_parameters(CELL)["note"]) == "{[1]: 2}"
