"""The order in which routes are asked."""

from __future__ import annotations

import uuid
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import chat_request
from tests.server.planning import ListPrices

from execution_platform.server.config.personas import Strategy
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.prompt_size import prompt_tokens
from execution_platform.server.routing.strategies import Inputs, Option, ordered, share
from execution_platform.v1 import chat_pb2

IDS = [str(uuid.UUID(int=number)) for number in range(4_000)]

OPTIONS = st.lists(
    st.builds(Option, st.sampled_from("abcdef"), st.just("m"), st.sampled_from([0.0, 0.5, 1.0, 3.0])),
    min_size=1,
    unique_by=lambda option: option.name,
)


def inputs(
    request_id: str = IDS[0],
    session: str = "",
    latencies: Latencies | None = None,
    prices: ListPrices | None = None,
    request: chat_pb2.ChatRequest | None = None,
) -> Inputs:
    """What an order depends on."""
    request = request or chat_request(text="x" * 400)
    request.context.session_id = session
    return Inputs(request, request_id, latencies or Latencies(), prices or ListPrices())


def order(strategy: Strategy, options: list[Option], given: Inputs) -> list[str]:
    """The providers in order."""
    return [options[index].provider for index in ordered(strategy, options, given).options]


def options_of(names: str) -> list[Option]:
    """Options of the same weight."""
    return [Option(name, "m") for name in names]


@given(OPTIONS, st.sampled_from(list(Strategy)), st.text(max_size=5), st.sampled_from(IDS))
def test_every_option_has_one_place_and_the_same_each_time(
    options: list[Option], strategy: Strategy, session: str, request_id: str
) -> None:
    """Each option appears once, with a reason's place, and the same inputs give the same order."""
    first = ordered(strategy, options, inputs(request_id, session))
    again = ordered(strategy, list(options), inputs(request_id, session))
    assert sorted(first.options) == list(range(len(options)))
    assert len(first.reasons) == len(options)
    assert (list(first.options), list(first.reasons)) == (list(again.options), list(again.reasons))


@given(OPTIONS, st.sampled_from([Strategy.WEIGHTED, Strategy.STICKY]), st.randoms(use_true_random=False))
def test_weights_and_sessions_do_not_see_the_order_of_the_list(
    options: list[Option], strategy: Strategy, random: Random
) -> None:
    """For WEIGHTED and STICKY the order of the configuration does not matter."""
    shuffled = random.sample(options, len(options))
    given_ = inputs(session="s")
    assert order(strategy, options, given_) == order(strategy, shuffled, given_)


@given(OPTIONS, st.sampled_from([Strategy.WEIGHTED, Strategy.STICKY]), st.text(min_size=1, max_size=8))
def test_one_that_leaves_moves_only_its_own(options: list[Option], strategy: Strategy, key: str) -> None:
    """Without one of the options the others keep their order, so only what it was first for moves, and moves back."""
    whole = order(strategy, options, inputs(key, key))
    for gone in options:
        left = order(strategy, [option for option in options if option is not gone], inputs(key, key))
        assert left == [name for name in whole if name != gone.provider]


def test_weights_are_shares_of_the_requests() -> None:
    """Over many ids each option is first for its weight's share, and weight 0 is always last."""
    options = [Option("a", "m", 3.0), Option("b", "m", 1.0), Option("c", "m", 0.0)]
    orders = [order(Strategy.WEIGHTED, options, inputs(request_id)) for request_id in IDS]
    first = Counter(names[0] for names in orders)
    # Six standard deviations of a share of 3/4 of 4,000 ids.
    assert first["a"] / len(IDS) == pytest.approx(0.75, abs=0.041)
    assert {names[-1] for names in orders} == {"c"}


def test_sessions_spread_and_stay() -> None:
    """Sessions are spread over the options evenly, and the request's id does not move them."""
    options = options_of("abcd")
    first = Counter(order(Strategy.STICKY, options, inputs(session=session))[0] for session in IDS)
    for name in "abcd":
        assert first[name] / len(IDS) == pytest.approx(0.25, abs=0.041)
    assert len({order(Strategy.STICKY, options, inputs(request_id, "s"))[0] for request_id in IDS[:50]}) == 1


def test_sticky_without_session_is_priority() -> None:
    """Without a session the list's order holds, and that is what is said."""
    result = ordered(Strategy.STICKY, options_of("ba"), inputs())
    assert (result.strategy, list(result.options)) == (Strategy.PRIORITY, [0, 1])


def test_the_fastest_by_median_is_first_and_the_unknown_last() -> None:
    """One late answer does not move a model behind one that is always slower; what nobody knows follows."""
    latencies = Latencies()
    for seconds in (0.1, 0.1, 9.0):
        latencies.note("a", "m", seconds)
    for seconds in (0.2, 0.2, 0.2):
        latencies.note("b", "m", seconds)
    usual = next(request_id for request_id in IDS if share(request_id, "explore") > 0.5)
    options = options_of("cba")
    assert order(Strategy.LOWEST_LATENCY, options, inputs(usual, latencies=latencies)) == ["a", "b", "c"]
    reasons = ordered(Strategy.LOWEST_LATENCY, options, inputs(usual, latencies=latencies)).reasons
    assert list(reasons) == [
        "no answer is known yet",
        "median first output 0.200 s of 3 answers",
        "median first output 0.100 s of 3 answers",
    ]


def test_one_request_in_twenty_learns_of_the_others() -> None:
    """A twentieth of the requests asks each of the slower and unknown first, so that none stays unknown."""
    latencies = Latencies()
    latencies.note("a", "m", 0.1)
    first = Counter(
        order(Strategy.LOWEST_LATENCY, options_of("abc"), inputs(request_id, latencies=latencies))[0]
        for request_id in IDS
    )
    assert first["a"] / len(IDS) == pytest.approx(0.95, abs=0.021)
    assert min(first["b"], first["c"]) > len(IDS) / 20 / 4


def test_the_cheapest_is_first_and_the_unpriced_last() -> None:
    """The order is by the estimate for the prompt and the longest answer; the reason tells both numbers."""
    prices = ListPrices({"a/m": "2", "c/m": "0.5"})
    options = options_of("abc")
    request = chat_request(text="x" * 400)
    request.sampling.max_output_tokens = 100
    result = ordered(Strategy.CHEAPEST, options, inputs(prices=prices, request=request))
    assert [options[index].provider for index in result.options] == ["c", "a", "b"]
    assert list(result.reasons) == [
        "about USD 0.402 for 101 tokens in and 100 out",
        "no price is known",
        "about USD 0.1005 for 101 tokens in and 100 out",
    ]


def test_a_prompt_is_measured_roughly() -> None:
    """Four bytes of text, tools and results are about a token, a medium is a thousand whatever its size."""
    request = chat_request(text="x" * 4_000)
    assert prompt_tokens(request) == pytest.approx(1_000, rel=0.01)
    request.tools.add(function=chat_pb2.FunctionTool(name="f", description="d" * 4_000))
    assert prompt_tokens(request) == pytest.approx(2_000, rel=0.01)
    result = request.messages.add().content.add().tool_result
    result.content.add().text.text = "y" * 4_000
    assert prompt_tokens(request) == pytest.approx(3_000, rel=0.01)
    result.content.add().media.data = b"z" * 1_000_000
    assert prompt_tokens(request) == pytest.approx(4_000, rel=0.01)


def test_whole_answers_count_where_no_stream_is_known() -> None:
    """Callers who ask for whole answers only make latencies known as well."""
    options = [Option("a", "m", 1.0), Option("b", "m", 1.0)]
    latencies = Latencies()
    for provider, seconds in (("a", 2.0), ("b", 0.5), ("b", 0.7)):
        latencies.note(provider, "m", seconds, whole=True)
    assert latencies.median("b", "m") == (0.5, 2)
    usual = next(each for each in IDS if share(each, "explore") > 0.5)
    assert order(Strategy.LOWEST_LATENCY, options, inputs(usual, latencies=latencies)) == ["b", "a"]
