"""Answers of people are held to the schema as it was written, and schemas are small and tame."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmer_contract.answer_schemas import MAX_SCHEMA_BYTES, check_schema, find_problem

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "colour": {"enum": ["red", "green"]},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
        "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"name": "x"}, None),
        ({"name": "x", "count": 3, "colour": "red", "sure": False, "tags": ["a"], "either": None}, None),
        ({"name": "x", "count": 3.0}, None),
        ({}, "name is missing"),
        ("x", "the answer is not of type object"),
        ({"name": ""}, "name has 0 characters, and must have 1 at least"),
        ({"name": "longer"}, "name has 6 characters, and may have 5"),
        ({"name": "x", "count": True}, "count is not of type integer"),
        ({"name": "x", "count": 1.5}, "count is not of type integer"),
        ({"name": "x", "count": 0}, "count is out of bounds: 0"),
        ({"name": "x", "count": 10}, "count is out of bounds: 10"),
        ({"name": "x", "colour": "blue"}, 'colour is none of "red", "green"'),
        ({"name": "x", "sure": "yes"}, "sure is not of type boolean"),
        ({"name": "x", "tags": []}, "tags has 0 items, and must have 1 at least"),
        ({"name": "x", "tags": ["a", "a"]}, "tags holds something twice"),
        ({"name": "x", "tags": [1]}, "tags[0] is not of type string"),
        ({"name": "x", "either": 1}, "either fits none of the forms that are possible"),
        ({"name": "x", "more": 1}, "more is not asked for"),
    ],
)
def test_an_answer_is_held_to_the_schema(answer: Any, problem: str | None) -> None:
    assert find_problem(answer, check_schema(FORM)) == problem


WILD: list[tuple[Any, str]] = [
    ("string", "the schema is not an object"),
    ({"$ref": "https://example.com/x"}, "the schema uses '$ref', which answers cannot be held to"),
    (
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}},
        "a uses 'pattern', which answers cannot be held to",
    ),
    ({"type": "text"}, "the schema: 'text' is not a type of JSON"),
    ({"minLength": -1}, "the schema: minLength is not a whole number from 0"),
    ({"maximum": "5"}, "the schema: maximum is not a number"),
    ({"required": [1]}, "the schema: required is not a list of names"),
    ({"anyOf": []}, "the schema: anyOf is not a list of at most 50 schemas"),
    (
        {"properties": {f"f{n}": {} for n in range(51)}},
        "the schema: properties is not an object of at most 50 fields",
    ),
    (
        {"description": "x" * MAX_SCHEMA_BYTES},
        f"the schema has {MAX_SCHEMA_BYTES + 19} bytes, and may have {MAX_SCHEMA_BYTES}",
    ),
]


@pytest.mark.parametrize(("schema", "problem"), WILD)
def test_a_schema_that_answers_cannot_be_held_to_is_refused(schema: Any, problem: str) -> None:
    with pytest.raises(ValueError) as refusal:
        check_schema(schema)
    assert str(refusal.value) == problem


def test_a_bound_may_be_any_whole_number() -> None:
    schema = check_schema({"type": "integer", "minimum": 10**400})

    assert find_problem(3, schema) == "the answer is out of bounds: 3"
    assert find_problem(10**400, schema) is None


def test_a_schema_is_not_deep() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(10):
        schema = {"type": "array", "items": schema}

    with pytest.raises(ValueError, match="nested more than 6 deep"):
        check_schema(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
WORDS = ["type", "enum", "properties", "required", "items", "anyOf", "oneOf", "minimum", "maxItems", "const"]


@given(schema=st.dictionaries(st.sampled_from(WORDS), JSON, max_size=4), value=JSON)
def test_whatever_is_written_as_a_schema_is_refused_or_can_be_held_to(schema: Any, value: Any) -> None:
    try:
        checked = check_schema(schema)
    except ValueError:
        return
    find_problem(value, checked)
