"""Every step of the journey has a room, in its own colour's folder, that says so."""

import ast
from pathlib import Path

import pytest

import pulseweir
from pulseweir.operations.steps import PATHS, Step, numbers_in, steps

_SOURCE = Path(pulseweir.__file__).parent


def test_eighteen_steps_in_order() -> None:
    found = steps()

    assert [each.step for each in found] == list(range(1, 19))
    assert [each.path for each in found] == ["blue"] * 5 + ["green"] * 6 + ["red"] * 4 + ["orange"] * 3


@pytest.mark.parametrize("step", steps(), ids=lambda step: f"step-{step.step}")
def test_step_has_a_room_in_its_colours_folder(step: Step) -> None:
    rooms = [name for name in step.rooms if name.split(".")[1] == PATHS[step.path]]
    working = [name for name in rooms if _is_room_of(name, step.step)]

    assert working, f"no module of {PATHS[step.path]} says in its first line that it is step {step.step}"


@pytest.mark.parametrize("folder", sorted(PATHS.values()))
def test_every_module_of_a_path_names_its_step(folder: str) -> None:
    silent = [
        str(path.relative_to(_SOURCE))
        for path in sorted((_SOURCE / folder).rglob("*.py"))
        if path != _SOURCE / folder / "__init__.py" and not numbers_in(_first_line(path))
    ]

    assert not silent


@pytest.mark.parametrize(("colour", "folder"), sorted(PATHS.items()))
def test_no_module_of_a_path_claims_a_step_of_another(colour: str, folder: str) -> None:
    own = {each.step for each in steps() if each.path == colour}

    foreign = [
        str(path.relative_to(_SOURCE))
        for path in sorted((_SOURCE / folder).rglob("*.py"))
        if not set(numbers_in(_first_line(path))) <= own
    ]

    assert not foreign


def test_names_of_several_steps_are_read() -> None:
    assert numbers_in("Steps 4-5b: the worker.") == [4, 5]
    assert numbers_in("Steps 1 and 2: the hub.") == [1, 2]
    assert numbers_in("Step 11a: a copy.") == [11]


def _is_room_of(name: str, step: int) -> bool:
    base = _SOURCE.parent / Path(*name.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    does_something = any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) for node in tree.body)
    return does_something and step in numbers_in(_first_line(path))


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
