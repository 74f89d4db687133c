"""The form of secrets: what is made is read again, what was mistyped is not."""

import hypothesis
import pytest
from hypothesis import strategies as st

from kohakuriver.host import credentials
from kohakuriver.host.credentials import ALPHABET, Credential


def test_a_made_credential_is_read_again_and_matches_its_digest():
    made = credentials.make(credentials.USER)
    text = str(made)
    assert text.startswith("kru_")
    assert len(text) == 4 + 10 + 1 + 43 + 6
    assert credentials.parse(text, credentials.USER) == made
    assert made.matches(made.digest)
    assert not credentials.make(credentials.USER).matches(made.digest)


def test_another_kind_is_not_taken():
    assert credentials.parse(str(credentials.make(credentials.NODE)), credentials.USER) is None


@hypothesis.given(st.integers(min_value=0, max_value=63), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(position, letter):
    text = str(Credential(kind="u", id="0123456789", secret="s" * 43))
    changed = text[:position] + letter + text[position + 1 :]
    assert (credentials.parse(changed, "u") is None) == (changed != text)


@hypothesis.given(st.text(max_size=100))
def test_any_text_is_read_without_an_error(text):
    assert credentials.parse(text, "u") is None


def test_the_secret_is_not_in_the_representation():
    made = credentials.make(credentials.USER)
    assert made.secret not in repr(made)


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("Bearer x", "x"), ("bearer  x ", "x"), ("Basic x", None), ("", None), ("Bearer", "")],
)
def test_the_bearer_scheme_alone_is_a_token(header, token):
    assert credentials.bearer(header) == token
