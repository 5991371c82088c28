"""Reading header fields that go out with every request: to a provider, or to a collector of traces."""

from tollhouse.config import values
from tollhouse.config.secret import Secret
from tollhouse.config.section import Section
from tollhouse.config.values import Refused


def read_headers(section: Section) -> dict[str, Secret]:
    """The mapping `headers` of a section: lower-case name to value.  Reports names that are none, and those given twice."""
    headers: dict[str, Secret] = {}
    for entry, spot in section.members("headers"):
        value = spot.read(values.header_value)
        try:
            name = values.header_name(entry.key)
        except Refused as refused:
            section.spot.collector.flaw(entry.mark, spot.written, refused.sentence)
            continue
        if name in headers:
            spot.flaw(f"The header {name!r} is given twice.")
        if value is not None:
            headers[name] = value
    return headers
