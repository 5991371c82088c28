"""What a request of unknown meaning says of itself, and what it may not leave open."""

import pytest

from tollhouse.errors import BadRequest
from tollhouse.gateway.declaration import MAX_PARTS, declare

JSON = "application/json"
FORM = "multipart/form-data; boundary=edge"
LINES = "application/x-www-form-urlencoded"


def form(*fields: tuple[bytes, bytes]) -> bytes:
    parts = (b'--edge\r\ncontent-disposition: form-data; name="' + n + b'"\r\n\r\n' + v + b"\r\n" for n, v in fields)
    return b"".join(parts) + b"--edge--\r\n"


@pytest.mark.parametrize(
    ("path", "query", "kind", "body", "model"),
    [
        ("/v1/images/generations", b"", JSON, b'{"model":"a","prompt":"x"}', "a"),
        ("/v1/images/generations", b"", JSON, b' \r\n{"model":"lab/a"}', "a"),
        ("/v1/images/generations", b"", "", b'{"model":"a"}', "a"),
        ("/v1/images/generations", b"", JSON, b'{"model":null}', ""),
        ("/v1/images/generations", b"", JSON, b"[1]", ""),
        ("/v1/images/generations", b"", JSON, b"", ""),
        ("/v1/uploads/u/parts", b"", "application/x-ndjson", b'{"model":"a"}\n{"model":"b"}', ""),
        ("/v1/audio/speech", b"model=a&x=1", JSON, b"{}", "a"),
        ("/v1/audio/speech", b"", LINES, b"x=1&model=a", "a"),
        ("/v1/audio/speech", b"", FORM, form((b"file", b'name="model"\r\n\r\nb'), (b"model", b"a")), "a"),
        ("/v1beta/models/a:predict", b"", JSON, b"{}", "a"),
        ("/v1beta/models/a:predict", b"", JSON, b'{"model":"models/a"}', "a"),
        ("/v1beta/models%2Fa:predict", b"", JSON, b"{}", "a"),
    ],
)
def test_a_model_is_found_wherever_apis_name_it(path: str, query: bytes, kind: str, body: bytes, model: str):
    assert declare("lab", path, query, kind, body).model == model


@pytest.mark.parametrize(
    ("path", "query", "kind", "body"),
    [
        ("/images", b"", JSON, b'{"model":"a","Model":"b"}'),
        ("/images", b"", JSON, b'{"MODEL":"b"}'),
        ("/images", b"", JSON, b'{"model":"a","models":["b"]}'),
        ("/completions", b"", JSON, b'{"model":"a","max_tokens":1,"Max_Tokens":100000}'),
        ("/images", b"model=b", JSON, b'{"model":"a"}'),
        ("/images", b"model=a&Model=b", JSON, b"{}"),
        ("/models/b:predict", b"", JSON, b'{"model":"a"}'),
        ("/models%2Fb:predict", b"", JSON, b'{"model":"a"}'),
        ("/%6dodels/b:predict", b"", JSON, b'{"model":"a"}'),
        ("/models/a:predict/models/b:predict", b"", JSON, b"{}"),
        ("/images", b"", JSON, b'{"model":["a"]}'),
        ("/images", b"", JSON, b'{"model":"a",}'),
        ("/audio", b"", LINES, b"model=a&model=b"),
        ("/audio", b"", LINES, b"a&" * MAX_PARTS + b"a=b"),
        ("/audio", b"", FORM, form((b"model", b"a"), (b"model", b"b"))),
        ("/audio", b"", FORM, form((b"model", b"a"), (b"Model", b"b"))),
        ("/audio", b"", FORM, form((b'x"; name="model', b"a"))),
        ("/audio", b"", FORM, form((b'mo\\"del', b"a"))),
        ("/audio", b"", FORM, form((b"model", b"a")).replace(b'"model"', b"model")),
        ("/audio", b"", FORM, form((b"model", b"a")).replace(b"name=", b"name*=")),
        ("/audio", b"", FORM, b"before it\r\n" + form((b"model", b"a"))),
        ("/audio", b"", FORM + "; boundary=other", form((b"model", b"a"))),
        ("/audio", b"", "multipart/form-data", form((b"model", b"a"))),
        ("/audio", b"", FORM, form(*[(b"a", b"b")] * (MAX_PARTS + 1))),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(path: str, query: bytes, kind: str, body: bytes):
    with pytest.raises(BadRequest):
        declare("lab", path, query, kind, body)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model": "a",  "x": 1}', b'{"model": "a",  "x": 1}'),
        (b'{"model":"b","model":"a"}', b'{"model":"a"}'),
        (b'{"\\u006dodel":"b","model":"a"}', b'{"model":"a"}'),
        (b'{"model":"lab/a","x":1}', b'{"model":"a","x":1}'),
    ],
)
def test_only_what_was_read_is_sent(body: bytes, sent: bytes):
    assert declare("lab", "/images", b"", JSON, body).body == sent


@pytest.mark.parametrize(
    ("path", "body", "most", "answers"),
    [
        ("/completions", b'{"max_tokens":5}', 5, 1),
        ("/completions", b'{"max_tokens":5,"max_completion_tokens":7}', 7, 1),
        ("/completions", b'{"max_tokens":-5}', None, 1),
        ("/completions", b'{"max_tokens":"5","max_output_tokens":1}', None, 1),
        ("/images/generations", b'{"max_tokens":5,"n":3}', None, 3),
        ("/completions", b'{"n":2,"best_of":4,"prompt":["a","b"]}', None, 8),
        ("/completions", b'{"prompt":[[1,2],[3]]}', None, 2),
        ("/completions", b'{"prompt":[1,2,3]}', None, 1),
        ("/completions", b'{"prompt":"a","n":-1}', None, 1),
    ],
)
def test_how_much_may_be_written_is_never_taken_for_less(path: str, body: bytes, most: int | None, answers: int):
    said = declare("lab", path, b"", JSON, body)
    assert (said.max_output_tokens, said.answers) == (most, answers)
