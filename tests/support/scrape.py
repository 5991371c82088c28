"""What a scraper reads at `/metrics`.

scrape = Scrape((await gateway.get("/metrics")).body.decode())
assert scrape.value("tollhouse_refused_total", code="credential_missing") == 1
"""

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The samples of one exposition, by name and labels."""

    def __init__(self, text: str) -> None:
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                place = (sample.name, frozenset(sample.labels.items()))
                assert place not in self.samples, f"{place} is there twice"
                self.samples[place] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """The sample of that name with exactly these labels."""
        return self.samples.get((name, frozenset(labels.items())))

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """All samples of a name, by the values of their labels, in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(labels)): value
            for (found, labels), value in self.samples.items()
            if found == name
        }
