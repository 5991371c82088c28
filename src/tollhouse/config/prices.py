"""`prices:`, in the configuration and in a file of its own."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from tollhouse.config import values
from tollhouse.config.schema import PriceSettings, frozen_map
from tollhouse.config.section import Collector, Section, root_spot
from tollhouse.config.tree import MAX_FILE_BYTES, read_tree
from tollhouse.config.values import did_you_mean
from tollhouse.errors import ConfigError

RATES: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
    "reasoning",
    "request",
)
"""What a price can be given for: dollars per million tokens, and dollars a call for `request`."""

NEEDS_PRICES: Final = "There are no prices here; write them under `prices`, as in the configuration."


def read_prices(file: Section, prices: dict[str, Mapping[str, int]], owners: Collection[str]) -> PriceSettings:
    """`prices:`, together with those that stand at the providers' models, which are in `prices` already."""
    for entry, spot in file.members("prices"):
        owner, slash, model = entry.key.partition("/")
        if not slash or not model:
            spot.flaw("A price is for `provider/model`, or for `provider/*`.")
        elif owner not in owners:
            spot.flaw(f"There is no provider and no type of provider {owner!r}.{did_you_mean(owner, owners)}")
        elif entry.key in prices:
            spot.flaw("This model's prices stand at the provider's `models` already; keep one of them.")
        rates = read_rates(spot.section())
        prices.setdefault(entry.key, rates)
    return PriceSettings(overrides=frozen_map(prices))


def read_rates(section: Section) -> Mapping[str, int]:
    """Rates in nano-USD per million tokens."""
    rates = {name: rate for name in RATES if (rate := section.read_optional(name, values.dollars)) is not None}
    section.close()
    if section.spot.is_empty:
        section.spot.flaw(
            f"There are no prices here; give at least one of {', '.join(RATES)}, in dollars per million tokens."
        )
    return frozen_map(rates)


def parse_price_file(path: Path, data: bytes, owners: Collection[str]) -> PriceSettings:
    """A file that has the section `prices` and nothing else.  Raises `ConfigError` with every problem at once.

    `owners` are the names and types of providers that may stand in it.  Variables have no value there.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: The file is longer than {MAX_FILE_BYTES:,} bytes."])
    collector = Collector(str(path), {}, _nothing)
    tree = read_tree(data)
    for flaw in tree.flaws:
        collector.flaw(flaw.mark, "", flaw.sentence)
    file = root_spot(collector, tree.root).section()
    file.require("prices", NEEDS_PRICES)
    settings = read_prices(file, {}, owners)
    file.close()
    if (written := file.get("prices")) is not None and written.is_empty:
        written.flaw(NEEDS_PRICES)
    if problems := collector.problems():
        raise ConfigError(problems)
    return settings


def _nothing(path: str) -> bytes:
    raise FileNotFoundError(path)
