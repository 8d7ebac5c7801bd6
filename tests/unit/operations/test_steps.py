"""Every step of the journey has a room, in the folder of its own colour."""

import importlib

import pytest

from pulseweir.operations.steps import PATHS, Step, numbers_in, steps

ALL = steps()
COLOURS = {**dict.fromkeys(range(1, 6), "blue"), **dict.fromkeys(range(6, 12), "green")}
COLOURS |= {**dict.fromkeys(range(12, 16), "red"), **dict.fromkeys(range(16, 19), "orange")}


def test_there_are_eighteen_steps_in_their_order() -> None:
    assert [step.step for step in ALL] == list(range(1, 19))
    assert {step.step: step.path for step in ALL} == COLOURS


@pytest.mark.parametrize("step", ALL, ids=lambda step: str(step.step))
def test_the_step_has_a_room_in_its_own_colours_folder(step: Step) -> None:
    assert step.module in step.rooms
    assert all(name.startswith(f"pulseweir.{PATHS[step.path]}.") for name in step.rooms)
    for name in step.rooms:
        documented = importlib.import_module(name).__doc__
        assert documented is not None
        assert step.step in numbers_in(documented.split("\n")[0])


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("Step 10: windows. Pure.", [10]),
        ("Steps 6-8: the Patient.", [6, 7, 8]),
        ("Steps 6–8: the Patient.", [6, 7, 8]),
        ("Steps 4 and 5: the connector.", [4, 5]),
        ("Steps 4, 5: the connector.", [4, 5]),
        ("Step 5a-b: who wore it.", [5]),
        ("Steps 4-5b: the worker.", [4, 5]),
        ("The bus. Step 3 is elsewhere.", []),
        ("", []),
    ],
)
def test_a_first_line_names_its_steps(line: str, numbers: list[int]) -> None:
    assert numbers_in(line) == numbers
