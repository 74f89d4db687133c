"""Errors of the strict reader: the field, the value and the limit in words, whatever was sent."""

import json

import pytest

from kohakuriver.errors import LONGEST_ECHO, Invalid, KohakuRiverError
from kohakuriver.wire import api, codec, people


def refused(data, kind=api.SubmitTask):
    with pytest.raises(Invalid) as error:
        codec.decode_strict(data if isinstance(data, bytes) else json.dumps(data).encode(), kind)
    return error.value


@pytest.mark.parametrize(
    ("data", "field", "value", "limit"),
    [
        ({"cores": -1}, "cores", "-1", "`int` >= 0"),
        ({"copies": 10**6}, "copies", "1000000", "`int` <= 5000"),
        ({"command": ["a", 3]}, "command[1]", "3", "`str`"),
        ({"devices": {"count": 99}}, "devices.count", "99", "`int` <= 64"),
        ({"pin": "yes"}, "pin", "yes", "`bool`"),
        ({"nonsense": 1}, "nonsense", "1", None),
        ({"devices": {"nonsense": 1}}, "devices.nonsense", "1", None),
        ({"name": "x" * 300}, "name", "x" * 79 + "…", "`str` of length <= 128"),
        ({"name": "a\x1b[2J" * 50}, "name", "a�[2J" * 15 + "a�[2…", "`str` of length <= 128"),
        ({"env": {"a b": "c"}}, "env", None, "`str` matching regex '^[A-Za-z_][A-Za-z0-9_]*$'"),
        ([], None, None, "`object`"),
    ],
)
def test_a_refusal_names_field_value_and_limit(data, field, value, limit):
    error = refused(data)
    assert (error.field, error.value, error.limit) == (field, value, limit)


@pytest.mark.parametrize(
    ("data", "kind", "field"),
    [
        ({"secret": "x", "password": "short"}, people.Setup, "password"),
        ({"user": "a", "password": "x" * 300}, people.Login, "password"),
        ({"old": "x" * 300, "new": "good enough"}, people.ChangePassword, "old"),
        ({"token": "x" * 300, "name": "n"}, api.Join, "token"),
        ({"secrets": {"A": 12345}}, api.SubmitTask, "secrets[...]"),
    ],
)
def test_what_may_be_a_secret_is_not_said_back(data, kind, field):
    error = refused(data, kind)
    assert (error.field, error.value) == (field, None)


def test_what_is_missing_is_named():
    assert refused({"secret": "x"}, people.Setup).field == "password"


@pytest.mark.parametrize("name", ["x" * 100_000, "a\x1b[2J\n\u202e", "a`b"])
@pytest.mark.parametrize("shape", [lambda name: {name: 1}, lambda name: {"role": name, "name": "u"}])
def test_words_of_others_are_one_printable_line_of_a_bounded_length(name, shape):
    error = refused(shape(name), people.NewUser)
    for text in (error.message, error.field or "", error.value or "", error.limit or ""):
        assert text.isprintable()
        assert len(text) <= codec.LONGEST_WORDS + 1
    assert len(error.value or "") <= LONGEST_ECHO


def test_a_query_is_refused_in_the_same_words():
    from kohakuriver.wire import queries

    with pytest.raises(KohakuRiverError) as error:
        codec.convert({"limit": "1001"}, queries.Paging)
    assert (error.value.field, error.value.value, error.value.limit) == ("limit", "1001", "`int` <= 1000")
