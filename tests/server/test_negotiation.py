"""Which form is read and which is given, by the headers alone."""

import pytest

from tollhouse.errors import NotAcceptable, UnsupportedMediaType
from tollhouse.server.http.negotiation import form_of_answer, form_of_request

FORMS = {
    "json": ("application/json", "text/event-stream"),
    "protobuf": ("application/x-protobuf", "application/protobuf"),
}


def header(name: str, *values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((name.encode(), value.encode("latin-1")) for value in values)]


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ("application/json", "json"),
        ("Application/JSON; charset=utf-8", "json"),
        ("application/x-protobuf", "protobuf"),
        ("application/protobuf;messageType=x", "protobuf"),
    ],
)
def test_the_form_of_a_request_is_the_one_that_it_names(given: str, form: str):
    assert form_of_request(header("content-type", given), FORMS) == form


@pytest.mark.parametrize("given", ["text/plain", "application/x-www-form-urlencoded", "json", "", "application/json2"])
def test_a_form_that_is_not_read_is_refused_with_those_that_are(given: str):
    with pytest.raises(UnsupportedMediaType, match="application/json, application/x-protobuf") as caught:
        form_of_request(header("content-type", given), FORMS)
    assert caught.value.spoken == ("application/json", "application/x-protobuf")


def test_a_request_that_does_not_say_its_form_is_refused():
    with pytest.raises(UnsupportedMediaType, match="does not say its Content-Type"):
        form_of_request(header("accept", "application/json"), FORMS)


@pytest.mark.parametrize(
    ("accept", "default", "form"),
    [
        ((), "protobuf", "protobuf"),
        (("",), "json", "json"),
        (("*/*",), "protobuf", "protobuf"),
        (("*/*",), "json", "json"),
        (("application/*",), "protobuf", "protobuf"),
        (("application/json",), "protobuf", "json"),
        (("text/event-stream",), "protobuf", "json"),
        (("text/html, application/x-protobuf",), "json", "protobuf"),
        (("text/html", "application/protobuf"), "json", "protobuf"),
        (("application/json;q=0.4, application/x-protobuf;q=0.5",), "json", "protobuf"),
        (("application/json;q=0.5, application/x-protobuf;q=0.5",), "protobuf", "protobuf"),
        (("application/json;q=0, text/event-stream;q=0, */*",), "json", "protobuf"),
        (("*/*;q=0.1, application/json",), "protobuf", "json"),
        (("nonsense, application/x-protobuf; q=high, application/json",), "protobuf", "json"),
    ],
)
def test_the_answer_is_in_the_form_that_is_liked_best(accept: tuple[str, ...], default: str, form: str):
    assert form_of_answer(header("accept", *accept), FORMS, default) == form


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0, image/*", "application/x-protobuf;q=0"])
def test_a_form_that_is_not_spoken_is_refused_with_those_that_are(accept: str):
    with pytest.raises(NotAcceptable, match="application/json, application/x-protobuf") as caught:
        form_of_answer(header("accept", accept), FORMS, "json")
    assert caught.value.spoken == ("application/json", "application/x-protobuf")


def test_an_endless_accept_is_read_to_a_bound():
    assert (
        form_of_answer(
            header("accept", "a/b," * 100_000 + "application/json"), {"json": ("x/y",), "any": ("a/b",)}, "json"
        )
        == "any"
    )
