"""How lists of the register are read."""

import pytest

from tollhouse.policy.register import MAX_PAGE, all_pages


@pytest.mark.parametrize("many", [0, 1, MAX_PAGE - 1, MAX_PAGE, MAX_PAGE + 1, 2 * MAX_PAGE])
def test_a_list_of_any_length_is_read_whole_and_in_order(many: int):
    names = [f"{number:05}" for number in range(many)]

    def page(after: str) -> list[str]:
        return [name for name in names if name > after][:MAX_PAGE]

    assert all_pages(page, lambda name: name) == names
