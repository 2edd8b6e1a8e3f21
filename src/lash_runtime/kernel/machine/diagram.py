"""The turn machine as a picture, drawn from the table that runs it."""

import re

from .states import MachineState, PreparingProtocol, TurnFinished
from .transitions import STEPS, TRANSITIONS


def mermaid_diagram() -> str:
    """The states and what leads from one to the other, as a Mermaid state diagram.

    Ending a turn from outside leads from every state to the end, and is not drawn.
    """
    edges = [
        *(
            (state, target, "poll")
            for state, step in STEPS.items()
            for target in _in_order(step.leads_to)
        ),
        *(
            (state, target, _words(response.__name__))
            for (state, response), transition in TRANSITIONS.items()
            for target in _in_order(transition.leads_to)
        ),
    ]
    lines = [
        "stateDiagram-v2",
        f"    [*] --> {_name(PreparingProtocol)}",
        *(f"    {_name(start)} --> {_name(end)}: {label}" for start, end, label in edges),
        f"    {_name(TurnFinished)} --> [*]",
    ]
    return "\n".join(lines) + "\n"


def _in_order(states: frozenset[type[MachineState]]) -> list[type[MachineState]]:
    return sorted(states, key=_name)


def _name(state: type[MachineState]) -> str:
    return _words(state.__name__).replace(" ", "_")


def _words(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
