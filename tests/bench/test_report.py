from bench.figures import Spread
from bench.machine import direct_dependencies
from bench.report import Machine, Report, Row, cells, grouped, markdown

MACHINE = Machine(
    cpu="a processor", cores=2, memory_mb=4096, kernel="6.1", python="3.11.7", nginx="1.22.1", packages={}
)
EVENT = Row(group="events", name="same dialect", measured=Spread(1.904, 1.87, 1.94), unit="x", most=2.5)
MEMORY = Row(group="memory", name="resident", measured=Spread(150.0, 150.0, 150.0), unit="MB", most=120.0)
NGINX = Row(group="events", name="nginx", measured=Spread(16.7, 15.8, 17.7), unit="µs")


def test_a_row_says_what_was_measured_how_it_varied_and_what_it_may_be():
    assert cells(EVENT) == ("same dialect", "1.90x", "1.87 to 1.94", "2.5x", "ok")


def test_a_figure_over_its_target_is_said_to_be_over():
    assert cells(MEMORY) == ("resident", "150.0 MB", "", "120 MB", "over")


def test_a_figure_without_a_target_is_not_judged():
    assert cells(NGINX)[3:] == ("", "")


def test_rows_of_a_group_stand_together_whenever_they_came():
    assert grouped([EVENT, MEMORY, NGINX]) == {"events": [EVENT, NGINX], "memory": [MEMORY]}


def test_the_page_names_the_machine_the_figures_and_the_remarks():
    page = markdown(
        Report(
            measured_at="2026-11-21T13:00:00+00:00",
            commit="abc1234",
            subject="tollhouse",
            effort="full, 5 rounds",
            machine=MACHINE,
            rows=(EVENT, NGINX),
            remarks=("One core only.",),
        )
    )
    assert page.startswith("# tollhouse at abc1234, 2026-11-21\n")
    assert "a processor, 2 cores" in page
    assert "| same dialect | 1.90x | 1.87 to 1.94 | 2.5x | ok |" in page
    assert page.endswith("- One core only.\n")


def test_direct_dependencies_are_those_of_the_core_alone():
    text = '[project]\ndependencies = ["a>=1", "b"]\n[project.optional-dependencies]\nx = ["c"]\n'
    assert direct_dependencies(text) == 2
