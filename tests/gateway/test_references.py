"""Which things a request names: in its path, its query and its body."""

import json

import pytest

from tollhouse.chat.model import Document, Message, Request, StoredFile, Text
from tollhouse.errors import BadRequest
from tollhouse.gateway import references
from tollhouse.gateway.references import in_fields, in_json, in_path, in_query, may_name, stored_files


@pytest.mark.parametrize(
    ("path", "kind", "thing"),
    [
        ("/v1/files", "files", None),
        ("/v1/files/file-1", "files", "file-1"),
        ("/v1/files/file-1/content", "files", "file-1"),
        ("/openai/v1/batches/batch_1/cancel", "batches", "batch_1"),
        ("/v1/fine_tuning/jobs", "fine_tuning/jobs", None),
        ("/v1/fine_tuning/jobs/ftjob-1/events", "fine_tuning/jobs", "ftjob-1"),
        ("/v1/threads/runs", "threads/runs", None),
        ("/v1/threads/thread_1/runs/run_1", "threads", "thread_1"),
        ("/v1/messages/batches", "messages/batches", None),
        ("/v1/messages/batches/msgbatch_1/results", "messages/batches", "msgbatch_1"),
        ("/v1/chat/completions/chatcmpl-1", "chat/completions", "chatcmpl-1"),
        ("/v1/images/generations", "images/generations", None),
        ("/api/v1/services/aigc/text2image/image-synthesis", "services/aigc/text2image/image-synthesis", None),
        ("/api/v1/tasks/86ecf553-d340", "tasks", "86ecf553-d340"),
        ("/v1/files/plain", "files", "plain"),
        ("/v1/vaults/search", "vaults", "search"),
        ("/v1/something/new/wid_123/run", "something/new", "wid_123"),
        ("/batches/batches/b1", "batches", "batches/b1"),
        ("/v1/batch/jobs/0c5a", "batch/jobs", "0c5a"),
        ("/v1/videos/generations", "videos/generations", None),
        ("/anthropic/v1/files/file_1", "anthropic/files", "file_1"),
    ],
)
def test_a_thing_stands_behind_its_collection(path: str, kind: str, thing: str | None):
    named = in_path(path, as_paths=False)

    assert (named.kind, named.thing) == (kind, thing)
    assert named.references == ({thing} if thing else set())


@pytest.mark.parametrize(
    ("path", "thing"),
    [
        ("/v1beta/files/abc", "files/abc"),
        ("/v1beta/files/abc:download", "files/abc"),
        ("/download/v1beta/files/abc:download", "files/abc"),
        ("/upload/v1beta/files", None),
        ("/upload/v1beta/fileSearchStores/s-1:uploadToFileSearchStore", "fileSearchStores/s-1"),
        ("/v1beta/fileSearchStores/s-1/documents/d-1", "fileSearchStores/s-1"),
        ("/v1beta/cachedContents/c", "cachedContents/c"),
        ("/v1beta/models/veo-3.0/operations/o1", "models/veo-3.0/operations/o1"),
        ("/v1beta/models/gemini-2.5-flash:batchGenerateContent", None),
        ("/v1beta/batches/b1", "batches/b1"),
    ],
)
def test_googles_names_have_their_collection_in_them(path: str, thing: str | None):
    assert in_path(path, as_paths=True).thing == thing


def test_the_operations_of_a_model_are_a_list_like_any_other():
    listed = in_path("/v1beta/models/veo-3.0/operations", as_paths=True)
    assert (listed.kind, listed.thing, listed.is_model) == ("models/veo-3.0/operations", None, False)


def test_models_are_nobodys_but_to_delete_one_is_not():
    assert in_path("/v1/models/meta-llama/Llama-3.3-70B", as_paths=False).is_model
    assert not in_path("/v1/models/gpt-4o", as_paths=False).references
    deleted = in_path("/v1/models/ft:gpt-4o:acme::1", as_paths=False, method="DELETE")
    assert deleted.references == {"ft:gpt-4o:acme::1"}


def test_what_is_below_a_thing_is_its_own_and_may_still_be_anothers():
    named = in_path("/v1/vector_stores/vs_1/files/file-2", as_paths=False)

    assert named.references == {"vs_1"}
    assert named.others == {"file-2"}
    assert not named.is_thing
    assert in_path("/v1/vector_stores/vs_1", as_paths=False).is_thing


@pytest.mark.parametrize(
    ("body", "references"),
    [
        ({"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}, {"file-1"}),
        ({"training_file": "file-1", "validation_file": "file-2"}, {"file-1", "file-2"}),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}]}, {"vs_1", "vs_2"}),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]}, {"file-1"}),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, {"cntr_1"}),
        ({"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}}, {"file-1"}),
        ({"input_files": ["a-1"], "training_files": [{"file_id": "b-2", "weight": 1}]}, {"a-1", "b-2"}),
        (
            {"container": {"id": "container_1", "skills": [{"type": "custom", "skill_id": "skill_1"}]}},
            {"container_1", "skill_1"},
        ),
        ({"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}}, set()),
        ({"skills": [{"type": "skill_reference", "skill_id": "openai-spreadsheets"}]}, set()),
        (
            {"messages": [{"content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]},
            {"file_1"},
        ),
        ({"messages": [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}, {"file-1"}),
        ({"attachments": [{"file_id": "file-1", "tools": []}], "assistant_id": "asst_1"}, {"file-1", "asst_1"}),
        ({"previous_response_id": "resp_1", "conversation": {"id": "conv_1"}}, {"resp_1", "conv_1"}),
        ({"File_ID": "file-1", "INPUTFILEID": "file-2"}, {"file-1", "file-2"}),
        ({"file_id": None, "container": {"type": "auto"}, "conversation": 7}, set()),
    ],
)
def test_fields_of_known_names_name_things(body: object, references: set[str]):
    named = in_json(json.dumps(body).encode(), as_paths=False)

    assert named is not None
    assert named.references == references


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/files/abc", "files/abc"),
        ("https://generativelanguage.googleapis.com/v1beta/files/abc:download?alt=media", "files/abc"),
        ("https://g/v1beta/files/%61bc", "files/abc"),
        ("files/abc", "files/abc"),
        ("https://www.youtube.com/watch?v=1", None),
        ("gs://bucket/files/abc", None),
        ("https://storage.googleapis.com/bucket/files/abc", None),
    ],
)
def test_a_file_of_googles_is_named_by_its_address(value: str, name: str | None):
    body = {"contents": [{"parts": [{"fileData": {"fileUri": value}}, {"file_data": {"file_uri": value}}]}]}
    named = in_json(json.dumps(body).encode(), as_paths=True)

    assert named is not None
    assert named.references == ({name} if name else set())


def test_a_callers_own_data_means_what_it_means_to_the_caller():
    body = {
        "metadata": {"file_id": "7"},
        "tools": [{"name": "open", "input_schema": {"properties": {"file_id": {"const": "8"}}}}],
        "messages": [
            {"content": [{"type": "tool_use", "input": {"file_id": "9"}}]},
            {"parts": [{"functionCall": {"args": {"fileUri": "files/a"}}}]},
            {"tool_calls": [{"function": {"arguments": '{"file_id": "10"}'}}]},
        ],
    }
    named = in_json(json.dumps(body).encode(), as_paths=False)

    assert named is not None
    assert not named.references
    assert named.chosen == {"7", "9", "files/a"}


def test_what_looks_like_a_call_is_no_way_around():
    body = {"type": "tool_use", "input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]}
    named = in_json(json.dumps(body).encode(), as_paths=False)

    assert named is not None
    assert named.references == {"file-1"}


def test_all_that_could_be_an_id_is_told_in_whatever_field():
    named = in_json(b'{"brand_new": {"ref": "vs_1"}, "prompt": "a cat", "size": "1024x1024"}', as_paths=False)

    assert named is not None
    assert not named.references
    assert named.others == {"vs_1", "1024x1024"}


def test_a_field_that_stands_twice_names_two_things():
    named = in_json(b'{"file_id": "file-1", "file_id": "file-2", "file\\u005fid": "file-3"}', as_paths=False)

    assert named is not None
    assert named.references == {"file-1", "file-2", "file-3"}


def test_forms_and_queries_name_things_too():
    assert in_query(b"container=cntr_1&after=file-9", as_paths=False).references == {"cntr_1"}
    assert in_query(b"after=file-9", as_paths=False).others == {"file-9"}
    form = in_fields([("file_ids[]", "file-1"), ("file_ids[0]", "file-2"), ("purpose", "batch")], as_paths=False)
    assert form.references == {"file-1", "file-2"}
    with pytest.raises(BadRequest):
        in_query(b"&".join([b"a=b"] * 300), as_paths=False)


@pytest.mark.parametrize("body", [b"", b"x", b"{", b"\xff\xfe{", b'{"a":' * 100_000, b'"\xff"'])
def test_what_is_no_json_is_told_apart_from_what_names_nothing(body: bytes):
    assert in_json(body, as_paths=False) is None


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(references, "MAX_NAMES", 3)
    with pytest.raises(BadRequest):
        in_json(b'["file-1", "file-2", "file-3", "file-4"]', as_paths=False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"content":[{"type":"file","file":{"file_id":"a"}}]}]}',
        b'{"contents":[{"parts":[{"fileData":{"fileUri":"files/a"}}]}]}',
        b'{"cachedContent":"cachedContents/a"}',
        b'{"container":"a"}',
        b'{"tools":[{"vector_store_ids":["a"]}]}',
        b'{"\\u0066ile_id":"a"}',
    ],
)
def test_a_conversation_that_names_a_thing_is_found_without_reading_it(body: bytes):
    assert may_name(body)


def test_most_conversations_name_nothing():
    assert not may_name(b'{"model":"m","messages":[{"role":"user","content":"Open the file, then\\nclose it."}]}')


def test_files_of_the_typed_protocol_are_found_wherever_they_stand():
    message = Message(role="user", parts=(Text("read"), Document(StoredFile("file-1", "openai"))))
    assert list(stored_files(Request(model="m", messages=(message,)))) == ["file-1"]
