"""One client's flood neither fills the queue nor stands before others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.serve.watch.fair import Fair, Turns


def entered(fair: Fair, client: str, n: int = 1) -> Turns:
    place = fair.enter(client, n)
    assert place is not None
    return place


@pytest.mark.parametrize(("floods", "share"), [(1, 896), (2, 478), (3, 326), (15, 68)])
def test_floods_leave_a_share_of_the_places(floods: int, share: int) -> None:
    """Clients that take turns, each as many as it gets."""
    fair = Fair(1024)
    taken = dict.fromkeys(range(floods), 0)
    for _ in range(1024):
        for client in taken:
            taken[client] += fair.enter(str(client)) is not None
    assert all(abs(n - share) <= 1 for n in taken.values())
    assert fair.enter("modest", 8) is not None


def test_who_comes_first_is_next_though_a_flood_waits() -> None:
    fair = Fair(1000)
    flood = [turn for _ in range(100) for turn in entered(fair, "flood").turns]
    for turn in flood[:10]:
        fair.began(turn)
    (turn,), light = entered(fair, "modest")
    assert light
    assert flood[9] <= turn < flood[10]
    (later,), _ = entered(fair, "modest")
    assert later <= flood[10]  # two inputs of each by then


def test_a_request_of_many_is_not_one_of_one() -> None:
    fair = Fair(1000)
    assert entered(fair, "batch", 128) == (range(128), False)
    assert entered(fair, "modest") == (range(1), True)


def test_places_are_free_again() -> None:
    fair = Fair(8)
    assert fair.enter("a", 9) is None
    assert entered(fair, "a", 8).turns == range(8)
    assert fair.enter("b") is None
    fair.left("a", 3)
    assert fair.enter("b") is not None
    fair.left("a", 5)
    fair.left("b")
    assert (fair.under_way, fair.clients) == (0, 0)
    assert fair.enter("a", 8) is not None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.booleans()), max_size=60))
def test_a_client_never_holds_more_than_was_free_and_turns_rise(steps: list[tuple[str, int, bool]]) -> None:
    fair, held, last = Fair(12), dict.fromkeys("abcd", 0), dict.fromkeys("abcd", -1)
    for client, n, leaves in steps:
        if leaves:
            fair.left(client, n)
            held[client] = max(0, held[client] - n)
            if not held[client]:
                last[client] = -1
            continue
        free = 12 - sum(held.values())
        place = fair.enter(client, n)
        one_by_one = all(held[client] + i < 7 * (free - i) for i in range(n))
        assert (place is not None) == (n <= free and (one_by_one or not held[client]))
        if place and place.turns:
            assert place.turns[0] > last[client]
            last[client] = place.turns[-1]
            held[client] += n
            assert place.light == (held[client] <= sum(held.values()) / sum(n > 0 for n in held.values()) / 2)
            fair.began(place.turns[0])
    assert fair.under_way == sum(held.values())
    assert fair.clients == sum(n > 0 for n in held.values())


def test_a_queue_has_places() -> None:
    with pytest.raises(UsageError, match="1 place"):
        Fair(0)


@pytest.mark.parametrize("clients", [1, 2, 16])
def test_clients_that_send_alike_are_not_light(clients: int) -> None:
    """Batches of inputs of many clients are as full as they can be."""
    fair = Fair(1000)
    places = [entered(fair, str(client)) for _ in range(4) for client in range(clients)]
    assert not any(place.light for place in places[clients:])
