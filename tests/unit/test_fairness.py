"""Who may take which free tokens: the rule by itself, without files or clocks."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from oumi_flow.tokens.fairness import Claim, kept, share

TOKENS = tuple(f"gpu-{index}" for index in range(8))


def some(count: int, *, aged: bool = False, of: tuple[str, ...] = TOKENS) -> Claim:
    return Claim(((count, of),), aged)


def these(*tokens: int, aged: bool = False) -> Claim:
    return Claim(tuple((1, (TOKENS[token],)) for token in tokens), aged)


def free(*tokens: int) -> set[str]:
    return {TOKENS[token] for token in tokens}


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    aged, choosy = draw(st.booleans()), draw(st.booleans())
    chosen = draw(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=8, unique=True))
    if draw(st.booleans()):
        return Claim(((draw(st.integers(1, len(chosen))), tuple(chosen)),), aged, choosy)
    cut = draw(st.integers(1, len(chosen)))  # named ones; of the first, any instance will do
    rest = tuple((1, (token,)) for token in chosen[cut:])
    return Claim(((1, tuple(chosen[:cut])), *rest), aged, choosy)


lines = st.lists(claims(), min_size=1, max_size=7)
frees = st.sets(st.sampled_from(TOKENS))


def test_a_free_token_is_for_who_waits_longest() -> None:
    line = [some(1), some(1), some(1)]
    assert share(line, 0, free(3)) == ("gpu-3",)
    assert share(line, 1, free(3)) is None
    assert share(line, 1, free(2, 3)) is not None
    assert share(line, 2, free(2, 3)) is None


def test_narrow_ones_overtake_a_wide_one_until_it_has_waited_for_long() -> None:
    assert share([some(8), some(1)], 1, free(0, 1, 2)) is not None
    assert share([some(8, aged=True), some(1)], 1, free(0, 1, 2)) is None
    # It keeps what it could use, nothing else.
    pair = some(2, aged=True, of=TOKENS[:4])
    assert share([pair, some(1)], 1, free(0, 7)) == ("gpu-7",)


def test_of_two_who_wait_for_long_the_first_is_served_first() -> None:
    line = [some(8, aged=True), some(4, aged=True), some(1)]
    assert [share(line, place, TOKENS[:6]) for place in range(3)] == [None] * 3
    assert share(line, 0, TOKENS) is not None
    assert share(line, 1, TOKENS) is None


def test_one_with_a_choice_leaves_alone_what_others_have_none_of() -> None:
    line = [some(1, of=TOKENS[:2]), these(0)]
    assert share(line, 0, free(0, 1)) == ("gpu-1",)
    assert share(line, 1, free(0, 1)) == ("gpu-0",)
    choosy = Claim(((1, TOKENS[:2]),), choosy=True)
    assert share([choosy, these(0)], 0, free(0, 1)) == ("gpu-0",)


def test_one_who_waits_for_a_named_gpu_holds_nobody_up() -> None:
    assert share([these(5, aged=True), some(7)], 1, set(TOKENS) - free(5)) is not None


@given(lines, frees)
def test_a_share_is_what_was_asked_for(line: list[Claim], there: set[str]) -> None:
    for place, claim in enumerate(line):
        got = share(line, place, there)
        if got is None:
            continue
        assert set(got) <= there & claim.usable
        assert len(set(got)) == len(got) == sum(count for count, _ in claim.needs)
        assert all(len(set(got) & set(group)) >= count for count, group in claim.needs)


@given(lines, frees)
def test_taking_changes_nothing_for_those_before(line: list[Claim], there: set[str]) -> None:
    for place, claim in enumerate(line):
        got = share(line, place, there)
        if got is None:
            continue
        before = [share(line, earlier, there) for earlier in range(place)]
        left = there - set(got)
        # Even the choosy are not kept from being served, though they may have to take another.
        for earlier in range(place):
            served = share(line, earlier, left) is not None
            assert served == (before[earlier] is not None), (claim, line[earlier])
        for token in got:
            assert not any(
                one.aged and before[earlier] is None and token in one.usable
                for earlier, one in enumerate(line[:place])
            )


@given(lines)
def test_nobody_waits_for_nothing(line: list[Claim]) -> None:
    """With all tokens free the first is served: no two can wait for each other."""
    assert share(line, 0, TOKENS) is not None


@given(lines, frees)
def test_equals_are_served_in_order(line: list[Claim], there: set[str]) -> None:
    for late, claim in enumerate(line):
        for early in range(late):
            if line[early].needs == claim.needs and share(line, late, there) is not None:
                assert share(line, early, there) is not None


@given(lines, frees)
def test_what_is_kept_is_free_and_of_somebody_before(line: list[Claim], there: set[str]) -> None:
    for token, position in kept(line, len(line), there).items():
        assert token in there & line[position].usable


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_an_aged_one_waits_for_no_more_than_a_turn_of_all_tokens(seed: int) -> None:
    """Narrow ones without end, random holds: the wide one is next once these have let go."""
    dice = random.Random(seed)
    wide, patience = 8, dice.randrange(5)
    held: dict[str, int] = {}  # token -> until
    overtaken = 0
    for now in range(10_000):
        held = {token: end for token, end in held.items() if end > now}
        there = set(TOKENS) - held.keys()
        line = [some(wide, aged=now >= patience), *(some(1) for _ in range(3))]
        if share(line, 0, there) is not None:
            break
        for place in range(1, 4):
            got = share(line, place, there)
            if got:
                overtaken += now >= patience
                held[got[0]] = now + dice.randrange(1, 9)
                there -= set(got)
    else:
        raise AssertionError("starved")
    assert overtaken <= len(TOKENS)
