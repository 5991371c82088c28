"""Which things an answer says were made, and what a thing came to."""

import json
from typing import Any

import pytest

from tollhouse.gateway.creations import MAX_MADE, made, made_by_event, outcome
from tollhouse.gateway.references import Named, in_json, in_path


def asked(path: str, body: object = None, *, as_paths: bool = False) -> Named:
    named = in_path(path, as_paths=as_paths)
    inner = None if body is None else in_json(json.dumps(body).encode(), as_paths=as_paths)
    return named if inner is None else named.and_also(inner)


@pytest.mark.parametrize(
    ("path", "answer", "ids"),
    [
        ("/v1/files", {"id": "file-1", "object": "file"}, ["file-1"]),
        ("/v1/threads/runs", {"id": "run_1", "thread_id": "thread_1"}, ["run_1", "thread_1"]),
        ("/v1/threads/thread_1/runs", {"id": "run_1", "thread_id": "thread_1"}, []),
        ("/v1/threads/thread_1/messages", {"id": "msg_1"}, []),
        ("/v1/videos/video_1/remix", {"id": "video_2", "remixed_from_video_id": "video_1"}, ["video_2"]),
        ("/v1/uploads/upload_1/complete", {"id": "upload_1", "file": {"id": "file-1"}}, ["file-1"]),
        ("/v1/containers/cntr_1/files", {"id": "cfile_1", "container_id": "cntr_1"}, []),
        (
            "/api/v1/services/aigc/text2image/image-synthesis",
            {"output": {"task_id": "t-1"}, "request_id": "r"},
            ["t-1"],
        ),
        ("/v1/videos/generations", {"request_id": "d97415a1"}, ["d97415a1"]),
        (
            "/v1/threads",
            {"id": "t_1", "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}},
            ["t_1", "vs_1"],
        ),
        ("/v1/moderations", {"results": []}, []),
        ("/v1/files", {"id": None, "name": "plain", "file": "x"}, []),
        ("/v1/files", {"id": 1, "thread_id": {}, "task_id": []}, []),
    ],
)
def test_what_was_made_stands_at_few_places(path: str, answer: dict[str, Any], ids: list[str]):
    assert made(json.dumps(answer).encode(), asked(path), as_paths=False) == ids


@pytest.mark.parametrize(
    ("path", "answer", "ids"),
    [
        ("/upload/v1beta/files", {"file": {"name": "files/a", "uri": "https://g/v1beta/files/a"}}, ["files/a"]),
        ("/v1beta/cachedContents", {"name": "cachedContents/a"}, ["cachedContents/a"]),
        ("/v1beta/models/veo:predictLongRunning", {"name": "models/veo/operations/o"}, ["models/veo/operations/o"]),
        ("/v1beta/interactions", {"id": "v1_abc"}, ["interactions/v1_abc"]),
        ("/v1beta/fileSearchStores/s:importFile", {"name": "fileSearchStores/s/operations/o"}, []),
    ],
)
def test_what_google_made_is_named_with_its_collection(path: str, answer: dict[str, Any], ids: list[str]):
    assert made(json.dumps(answer).encode(), asked(path, as_paths=True), as_paths=True) == ids


def test_what_the_request_named_was_there_before():
    named = asked("/v1/vector_stores/vs_1/files", {"file_id": "file-1", "note": "file-2"})
    for name in ("file-1", "file-2", "vs_1"):
        assert made(json.dumps({"id": name, "file": {"id": name}}).encode(), named, as_paths=False) == []


def test_a_name_that_the_caller_chose_is_made_all_the_same():
    named = asked("/v1beta/files", {"file": {"name": "files/mine"}}, as_paths=True)
    assert named.chosen == {"files/mine"}
    assert made(b'{"file": {"name": "files/mine"}}', named, as_paths=True) == ["files/mine"]


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"id": "batch_1", "output_file_id": "file-1", "error_file_id": None}, ["file-1"]),
        (
            {"id": "ftjob-1", "result_files": ["file-1", "file-2"], "fine_tuned_model": "ft:m::1"},
            ["file-1", "file-2", "ft:m::1"],
        ),
        ({"name": "batches/b", "response": {"responsesFile": "files/out"}}, ["files/out"]),
        (
            {
                "response": {
                    "generateVideoResponse": {
                        "generatedSamples": [{"video": {"uri": "https://g/v1beta/files/v:download?alt=media"}}]
                    }
                }
            },
            ["files/v"],
        ),
        ({"metadata": {"output_file_id": "file-9"}}, []),
    ],
)
def test_what_a_thing_came_to_is_told_by_it(answer: dict[str, Any], ids: list[str]):
    assert outcome(json.dumps(answer).encode(), asked("/v1/batches/batch_1")) == ids


@pytest.mark.parametrize(
    ("event", "ids"),
    [
        (b'{"object":"thread.run","id":"run_1","thread_id":"thread_1"}', ["thread_1"]),
        (b'{"type":"conversation.response.started","conversation_id":"conv_1"}', ["conv_1"]),
        (b'{"id":"chatcmpl-1"}', []),
        (b"[DONE]", []),
    ],
)
def test_events_tell_what_was_made(event: bytes, ids: list[str]):
    assert made_by_event(event, asked("/v1/threads/runs"), as_paths=False) == ids


@pytest.mark.parametrize("answer", [b"", b"[]", b"7", b"\xff", b'{"id":', b"[" * 100_000])
def test_what_cannot_be_read_made_nothing(answer: bytes):
    assert made(answer, Named(), as_paths=False) == outcome(answer, Named()) == []


def test_one_answer_makes_so_many_things_at_most():
    answer = {"result_files": [f"file-{number}" for number in range(MAX_MADE + 5)]}
    assert len(outcome(answer, Named())) == MAX_MADE
