"""The loader of recordings reads every file and tells streams from plain answers."""

from support.recordings import cuts, everything, load, recordings


def test_every_file_loads_under_its_own_name() -> None:
    assert len(everything()) >= 200
    for name, recording in everything().items():
        assert name == f"{recording.provider}/{recording.id}"


def test_an_error_to_a_streamed_request_is_not_a_stream() -> None:
    assert not load("openai/openai-chat-stream-error-404-51c4fa").is_stream
    assert load("openrouter/openrouter-chat-stream-text-a11194").is_stream
    assert load("gemini/gemini-chat-stream-text-5acf78").is_stream


def test_network_reads_add_up_to_the_body() -> None:
    for recording in everything().values():
        assert b"".join(recording.reads()) == recording.response.body
    assert len(load("groq/groq-chat-stream-tool-call-ad9ca0").reads()) > 1


def test_cutting_keeps_the_bytes() -> None:
    for recording in recordings("openai-chat", stream=True, provider="glm"):
        for pieces in cuts(recording.response.body, seed=1, ways=2):
            assert b"".join(pieces) == recording.response.body
