"""Step 4: how much work one message may cause, whatever its templates ask of it. Pure.

Every message has one budget for all of its expressions, so that neither a message nor a mapping can hold up its
neighbours. A step is about a tenth of a microsecond of the interpreter's time on a slow machine.
"""

from dataclasses import dataclass, field

from pulseweir.ingest.device_mapping.tokens import ExpressionFault

STEP_LIMIT = 160_000
MATCH_LIMIT = 10_000
LIST_LIMIT = 10_000
VISIT_STEPS = 3
TEST_STEPS = 6
MEMBER_TEST_STEPS = 2
QUERY_STEPS = 14
QUERY_START_STEPS = 40
FIELD_STEPS = 12
TEXT_SHIFT = 6
SLICE_SHIFT = 4


@dataclass(slots=True)
class Budget:
    """How many steps the evaluation of one message may still take.

    Attributes:
        steps: What is left.
        walked: What walks of this message found, by the identity of where they began, and that itself: the templates
            of a mapping mostly walk the same message, and pay once.
    """

    steps: int = STEP_LIMIT
    walked: dict[int, tuple[object, list[object]]] = field(default_factory=dict)

    def spend(self, steps: int) -> None:
        """Take steps away.

        Raises:
            ExpressionFault: None are left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionFault(
                f"The message takes more than {STEP_LIMIT} steps: it is too large for what its templates ask.",
                "limit-exceeded",
            )


def refuse_many(tokens: int) -> None:
    """Nothing, for as many tokens as one expression may select.

    Raises:
        ExpressionFault: There are more.
    """
    if tokens > MATCH_LIMIT:
        raise ExpressionFault(f"The expression selects more than {MATCH_LIMIT} tokens.", "limit-exceeded")


def text_steps(value: object) -> int:
    """What handling a text costs beyond handling any value, or writing out an integer of more than 64 bits."""
    if isinstance(value, str):
        return len(value) >> TEXT_SHIFT
    if isinstance(value, int):
        return (value.bit_length() >> 6) ** 2 >> 5
    return 0


def tree_steps(value: object, budget: Budget) -> None:
    """Take away what walking a value costs that may hold the same part many times.

    Raises:
        ExpressionFault: It costs more than is left.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            children = list(item.values())
        elif isinstance(item, list):
            children = item
        else:
            budget.spend(VISIT_STEPS + text_steps(item))
            continue
        budget.spend(2 * (VISIT_STEPS + len(children)))
        stack += children
