import copy
import pickle

import pytest

from tollhouse.config.secret import Secret

SECRET = Secret("sk-plaintext")


def test_nothing_that_prints_a_secret_shows_it():
    shown = [repr(SECRET), str(SECRET), f"{SECRET}", f"{SECRET:>20}", f"{SECRET!r}", "%s" % SECRET, repr([SECRET])]  # noqa: UP031
    assert all("***" in text and "plaintext" not in text for text in shown)


def test_reveal_gives_the_plaintext():
    assert SECRET.reveal() == "sk-plaintext"


def test_secrets_are_equal_by_content_and_unequal_to_text():
    assert Secret("sk-plaintext") == SECRET
    assert Secret("other") != SECRET
    assert Secret("é") == Secret("é")
    assert SECRET != "sk-plaintext"


def test_an_empty_secret_is_false():
    assert not Secret("")
    assert SECRET


@pytest.mark.parametrize("dump", [pickle.dumps, copy.copy, copy.deepcopy, hash])
def test_a_secret_cannot_be_serialized_copied_or_hashed_by_accident(dump):
    with pytest.raises(TypeError):
        dump(SECRET)
