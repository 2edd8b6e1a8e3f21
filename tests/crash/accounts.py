"""What must be true of a turn however often its processes died: the laws, and what breaks them.

One page for each life: what was counted outside during it, and what the file said before and
after. A law looks at a page, or at all of them when the turn is over.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crash.lifetimes import EARLIER, Answer, Found
from crash.long_turn import BACK_OFF_MS, ROUNDS, SORTS, WORDS, Script, picture
from crash.outside import Line, OnRecord, Snapshot, model_call, tool_attempt
from lash_runtime.model.attachments import attachment_id

NOTHING: Final = OnRecord(0, False)
UNKNOWN: Final = "may or may not have taken effect"
"""What the model is told of such a call."""

_PICTURES: Final = ("shown", "kept")


@dataclass(frozen=True)
class Page:
    """One life: `answers` has what its caller was told, if it lived to be told. With `recovers`,
    the caller may have come while the turn was being finished, or after that."""

    life: int
    died: bool
    answers: tuple[Answer | None, ...]
    lines: tuple[Line, ...]
    before: Snapshot
    after: Snapshot
    recovers: bool = False

    def begun(self) -> Mapping[str, Line]:
        return {line.act: line for line in self.lines if line.what == "begins"}

    def ended(self) -> Mapping[str, Line]:
        return {line.act: line for line in self.lines if line.what == "ends"}


def wrong_in(page: Page, script: Script) -> Iterator[str]:
    """What this life has done that it should not have."""
    for law in _LAWS_OF_A_LIFE:
        yield from (f"life {page.life}: {what}" for what in law(page, script))


def wrong_at_the_end(
    pages: Sequence[Page], script: Script, found: Found, undisturbed: Found
) -> Iterator[str]:
    """What is wrong with a turn that was finished after all of these lives."""
    unknown = unknown_calls(pages, script)
    yield from found.problems
    yield from _wrong_with_the_acts(pages, script, unknown)
    yield from _wrong_with_the_answers(pages, found, undisturbed, unknown)
    yield from _wrong_with_the_transcript(found, undisturbed, unknown)
    yield from _wrong_with_the_session(found, undisturbed, script, unknown)
    before, last = pages[-1].before, pages[-1].after
    # What a dead process holds is anybody's, so that nobody has to take it from it.
    if last.held and last.token != before.token:
        yield f"lease {last.token} was taken and not given back"
    if last.state != "committed":
        yield f"in the end the turn is {last.state}"


def wrong_whoever_did_it(
    lines: Sequence[Line], script: Script, found: Found, undisturbed: Found
) -> Iterator[str]:
    """What is wrong with a finished turn of which it is not known what was on record when."""
    begun = [line.act for line in lines if line.what == "begins" and _is_attempt(line.act)]
    for act in {*begun}:
        if begun.count(act) > 1 and not _may_be_repeated(act, script):
            yield f"{act} was begun {begun.count(act)} times"
    unknown = frozenset(
        failed
        for _, parts in found.messages
        for kind, text, call, _ in parts
        if kind == "tool_result"
        # What a call has asked of other tools is in its own result.
        for failed in ([str(call)] if UNKNOWN in text else re.findall(r"(\S+): failure", text))
    )
    missing = {_call_of(act) for act in expected_acts(unknown) if _is_attempt(act)} - {
        _call_of(act) for act in begun
    }
    yield from (f"{call} was never made" for call in missing if "." not in call)
    yield from _wrong_with_the_transcript(found, undisturbed, unknown)


def unknown_calls(pages: Iterable[Page], script: Script) -> frozenset[str]:
    """The calls that may or may not have happened, and that nobody may make again."""
    return frozenset(
        _call_of(act)
        for page in pages
        if page.died
        for act, entry in page.after.entries.items()
        if not entry.recorded and _is_attempt(act) and not _may_be_repeated(act, script)
    )


# --- one life -----------------------------------------------------------------------------------


def _nothing_twice(page: Page, _: Script) -> Iterator[str]:
    for what in ("begins", "ends"):
        acts = [line.act for line in page.lines if line.what == what]
        yield from (f"{act} {what} twice" for act in set(acts) if acts.count(act) > 1)


def _nothing_that_is_on_record(page: Page, _: Script) -> Iterator[str]:
    recorded = {act for act, entry in page.before.entries.items() if entry.recorded}
    yield from (
        f"{act} begins again, although it is on record" for act in recorded & {*page.begun()}
    )
    if page.before.is_settled and page.lines:
        yield f"the turn was over, and {page.lines[0].act} {page.lines[0].what}"
    if page.after.state is None and page.lines:
        yield f"the turn was not accepted, and {page.lines[0].act} {page.lines[0].what}"


def _reserved_before_it_begins(page: Page, script: Script) -> Iterator[str]:
    for act, line in page.begun().items():
        before, after = page.before.entries.get(act, NOTHING), page.after.entries.get(act, NOTHING)
        if not _is_attempt(act):
            continue
        if not line.run == before.runs + 1 == after.runs:
            yield f"{act} begins for the {line.run}. time: {before} became {after}"
        if before.runs and not _may_be_repeated(act, script):
            yield f"{act} begins again, although nobody knows whether it has happened"


def _the_journal_only_grows(page: Page, _: Script) -> Iterator[str]:
    for act, before in page.before.entries.items():
        after = page.after.entries.get(act, NOTHING)
        if after.runs not in {before.runs, before.runs + 1} or after.recorded < before.recorded:
            yield f"{act} was {before} and is {after}"
        if not page.after.is_settled and before.due_at_ms != after.due_at_ms:
            yield f"{act} was due at {before.due_at_ms} and is at {after.due_at_ms}"
    if page.after.strays:
        yield f"{page.after.strays} rows of journals that nobody has"


def _on_record_before_the_next_step(page: Page, _: Script) -> Iterator[str]:
    """At a death no more is in doubt than the last call of the model, or one round of tools."""
    if not page.died:
        yield from (
            f"{act} was begun and has not ended" for act in page.begun().keys() - page.ended()
        )
    newest = max((step_of(act) for act in page.begun()), default=0)
    for act in page.ended():
        is_over = step_of(act) < newest or page.after.is_settled
        if is_over and not page.after.entries.get(act, NOTHING).recorded:
            yield f"{act} has ended and is not on record, although the turn has gone on"


def _attempts_are_counted(page: Page, _: Script) -> Iterator[str]:
    taken_over = page.after.attempt - page.before.attempt
    if taken_over not in {0, 1}:
        yield f"attempt {page.before.attempt} became {page.after.attempt}"
    for answer in page.answers:
        # The caller of another turn has its answer once this one is over, if it was known.
        known = answer is not None or page.before.state is not None
        if known and not page.after.is_settled:
            yield f"the caller has its answer, and the turn is {page.after.state}"
        restarts = (page.after.attempt,) if page.before.state is not None and taken_over else ()
        possible = {restarts, ()} if page.recovers else {restarts}
        if answer is not None and answer.restarts not in possible:
            yield f"watchers were told of the restarts {answer.restarts}, not {restarts}"


_LAWS_OF_A_LIFE: Final = (
    _nothing_twice,
    _nothing_that_is_on_record,
    _reserved_before_it_begins,
    _the_journal_only_grows,
    _on_record_before_the_next_step,
    _attempts_are_counted,
)


# --- all of them --------------------------------------------------------------------------------


def _wrong_with_the_acts(
    pages: Sequence[Page], script: Script, unknown: frozenset[str]
) -> Iterator[str]:
    times = {act: [page for page in pages if act in page.begun()] for act in expected_acts(unknown)}
    other = {act for page in pages for act in page.begun()} - times.keys()
    yield from (
        f"{act} was begun, which nobody expected" for act in other if _call_of(act) not in unknown
    )
    for act, lives in times.items():
        if not lives:
            yield f"{act} was never begun"
        # Whoever begins what was begun before has seen the death of the one before.
        yield from (
            f"{act} was cut off in life {page.life}, which did not die"
            for page in lives[:-1]
            if not page.died
        )
        if lives and act not in lives[-1].ended() and _call_of(act) not in unknown:
            yield f"{act} has never ended"
    yield from _wrong_with_the_keys(pages)
    yield from _wrong_with_the_waits(pages)


def expected_acts(unknown: frozenset[str]) -> list[str]:
    """All acts of the turn, as far as it is known that they happen."""
    acts = [model_call(number) for number in range(ROUNDS + 1)]
    for sort in SORTS:
        for number in sort.rounds:
            call = f"{sort.name}-{number}"
            acts.append(tool_attempt(call, 1))
            if sort.fails_at_first:
                acts.append(tool_attempt(call, 2))
            acts += [tool_attempt(f"{call}.{name}", 1) for name in sort.calls]
    return [act for act in acts if _call_of(act) not in unknown]


def _wrong_with_the_keys(pages: Sequence[Page]) -> Iterator[str]:
    keys: dict[str, set[str]] = {}
    for page in pages:
        for act, line in page.begun().items():
            if _is_attempt(act):
                keys.setdefault(_call_of(act), set()).add(line.key)
    yield from (f"{call} has the keys {each}" for call, each in keys.items() if len(each) > 1)
    if len(set().union(*keys.values())) < len(keys):
        yield f"two calls have the same key: {keys}"


def _wrong_with_the_waits(pages: Sequence[Page]) -> Iterator[str]:
    first_end: dict[str, float] = {}
    for line in (line for page in pages for line in page.lines):
        if not line.act.endswith(":attempt:2") and line.what == "ends":
            first_end[_call_of(line.act)] = line.at_s
        elif line.act.endswith(":attempt:2") and line.what == "begins":
            waited_ms = 1000 * (line.at_s - first_end[_call_of(line.act)])
            # Due times are whole milliseconds.
            if waited_ms < BACK_OFF_MS - 1:
                yield f"{line.act} has waited for {waited_ms} ms only"


def _wrong_with_the_answers(
    pages: Sequence[Page], found: Found, undisturbed: Found, unknown: frozenset[str]
) -> Iterator[str]:
    [expected] = {replace(answer, restarts=()) for answer in undisturbed.answers}
    expected = replace(
        expected,
        calls=tuple(
            (call, name, "failure" if call in unknown else status)
            for call, name, status in expected.calls
        ),
    )
    told = [answer for page in pages for answer in page.answers if answer is not None]
    for answer in (*told, *found.answers):
        if replace(answer, restarts=()) != expected:
            yield f"{answer} was told, and not {expected}"
    if any(answer.restarts for answer in found.answers):
        yield "a turn that is over was restarted"


def _wrong_with_the_transcript(
    found: Found, undisturbed: Found, unknown: frozenset[str]
) -> Iterator[str]:
    if len(found.messages) != len(undisturbed.messages):
        yield f"{len(found.messages)} messages instead of {len(undisturbed.messages)}"
        return
    for message, other in zip(found.messages, undisturbed.messages, strict=True):
        if message[0] != other[0] or len(message[1]) != len(other[1]):
            yield f"{message} instead of {other}"
            continue
        for part, twin in zip(message[1], other[1], strict=True):
            kind, text, call, _ = part
            expected = twin[1]
            if kind == "tool_result" and call in unknown:
                expected = text
                if UNKNOWN not in text:
                    yield f"{call} is not reported as unknown: {text}"
            elif kind == "tool_result":
                for inner in unknown:
                    expected = expected.replace(f"{inner}: success", f"{inner}: failure")
            if part != (kind, expected, *twin[2:]):
                yield f"{part} instead of {twin}"


def _wrong_with_the_session(
    found: Found, undisturbed: Found, script: Script, unknown: frozenset[str]
) -> Iterator[str]:
    if found.usage != undisturbed.usage:
        yield f"the session has spent {found.usage} instead of {undisturbed.usage}"
    others = [words for words in found.words if words not in {EARLIER, WORDS}]
    earlier = script.begins == "goes on"
    if found.words.count(WORDS) != 1 or len({*others}) < len(others):
        yield f"the user has said {found.words}"
    if found.words.count(EARLIER) != earlier or (earlier and found.words[0] != EARLIER):
        yield f"the session began with {found.words}"
    lost = {picture(f"{call} shown") for call in unknown}
    if found.pictures != tuple(each for each in undisturbed.pictures if each not in lost):
        yield f"the pictures {found.pictures} are shown"
    stray = {attachment_id(picture(f"{call} {name}")) for call in unknown for name in _PICTURES}
    if found.unsettled - stray:
        yield f"{len(found.unsettled)} pictures are nobody's"


def _is_attempt(act: str) -> bool:
    return ":attempt:" in act and not act.endswith(":sleep")


def step_of(act: str) -> int:
    """Calls of the model and rounds of tools take turns."""
    if _is_attempt(act):
        return 2 * int(_call_of(act).partition(".")[0].rpartition("-")[2]) + 1
    return 2 * int(act.rpartition(":")[2])


def _call_of(act: str) -> str:
    return act.split(":")[0]


def _may_be_repeated(act: str, script: Script) -> bool:
    outer, _, inner = _call_of(act).partition(".")
    return script.unknown[inner or outer.partition("-")[0]] == "rerun"
