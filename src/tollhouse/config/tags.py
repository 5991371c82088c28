"""Reads what the operator notes about a caller: its tags."""

from typing import Final

from tollhouse.config import values
from tollhouse.config.section import Section
from tollhouse.config.values import Given, Refused

MAX_TAGS: Final = 50


def read_tags(section: Section) -> dict[str, str]:
    """The mapping `tags`; none when it is missing."""
    tags: dict[str, str] = {}
    members = section.members("tags")
    for entry, spot in members[:MAX_TAGS]:
        try:
            values.name(Given(entry.key))
        except Refused as refused:
            section.spot.collector.flaw(entry.mark, spot.written, refused.sentence)
        value = spot.read(values.tag)
        if value is not None:
            tags[entry.key] = value
    if len(members) > MAX_TAGS:
        members[MAX_TAGS][1].flaw(f"A key can have at most {MAX_TAGS} tags.")
    return tags
