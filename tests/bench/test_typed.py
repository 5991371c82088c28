from bench.machine import machine
from bench.typed import Figures, markdown, recorded


def test_what_was_recorded_holds_every_kind_of_message():
    found = recorded()
    assert len(found.requests) > 100
    assert len(found.responses) > 30
    assert sum(map(len, found.streams)) > 2_000


def test_the_page_names_a_kind_of_message_once_and_every_form():
    one = Figures(
        kind="request", count=1_234, form="protobuf", median_bytes=9.5, all_bytes=55_867, writes_us=1.25, reads_us=3
    )
    other = Figures(
        kind="request", count=1_234, form="JSON", median_bytes=36, all_bytes=146_454, writes_us=1, reads_us=2
    )
    page = markdown([one, other], machine(None))
    assert "| request (1,234) | protobuf | 10 | 55,867 | 1.2 µs | 3.0 µs |" in page
    assert "|  | JSON | 36 | 146,454 | 1.0 µs | 2.0 µs |" in page
