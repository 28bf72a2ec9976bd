"""Credentials are renewed in time, and by one request for all who wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.adapters.bedrock.givers import ROLE, Sts, config, session_of, source
from tests.adapters.bedrock.serving import REGION
from tests.adapters.upstream import Received, Reply, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.bedrock.credentials import CredentialSource
from execution_platform.adapters.bedrock.signing import Keys


async def test_many_who_wait_share_one_request(sts: Sts) -> None:
    """However many need credentials at once, STS is asked once; later ones do not ask at all."""
    async with source(role_arn=ROLE) as made:
        found = await asyncio.gather(*(made.current() for _ in range(30)))
        assert await made.current() == found[0]
    assert {(keys.access_key, keys.secret_key, keys.token) for keys in found} == {session_of(1)}
    assert len(sts.asked) == 1


@contextlib.asynccontextmanager
async def held_sts(monkeypatch: pytest.MonkeyPatch, sts: Sts) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Have STS answer only once it may; yields events of its being asked, and of its leave to answer."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(received: Received, reply: Reply) -> None:
        asked.set()
        await may_answer.wait()
        await sts(received, reply)

    # The limit only keeps a failing run from hanging.
    async with upstream(slow) as served, asyncio.timeout(60):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", served.url)
        yield asked, may_answer


async def test_who_leaves_does_not_end_it_for_the_others(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled request goes at once, while others wait on for the same answer; the loop runs meanwhile."""
    async with held_sts(monkeypatch, sts) as (asked, may_answer), source(role_arn=ROLE) as made:
        leaving, staying = (asyncio.create_task(made.current()) for _ in range(2))
        await asked.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        may_answer.set()
        assert (await staying).access_key == session_of(1)[0]
    assert len(sts.asked) == 1


async def test_closing_waits_for_nobody(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not wait for an STS that is silent."""
    async with held_sts(monkeypatch, sts) as (asked, _):
        made = CredentialSource(config(role_arn=ROLE), REGION)
        waiting = asyncio.create_task(made.current())
        await asked.wait()
        await made.aclose()
        await made.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def changed(made: CredentialSource, first: Keys) -> Keys:
    """The first credentials that are others."""
    while (later := await made.current()) == first:  # noqa: ASYNC110 - what is asked for is what a request would get
        await asyncio.sleep(0)
    return later


async def test_they_are_renewed_before_they_end(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that last a few minutes more still serve, while others are fetched once; those serve then."""
    sts.lasts = 300
    async with source(between=0, role_arn=ROLE) as made:
        first = await made.current()
        sts.lasts = 3600
        async with held_sts(monkeypatch, sts) as (asked, may_answer):
            assert [await made.current() for _ in range(5)] == [first] * 5
            await asked.wait()
            may_answer.set()
            later = await changed(made, first)
        assert (later.access_key, later.secret_key, later.token) == session_of(2)
    assert len(sts.asked) == 2


async def test_one_that_has_hardly_begun_is_not_renewed_again(sts: Sts) -> None:
    """Sessions that are always short do not make every request ask for another."""
    sts.lasts = 300
    async with source(role_arn=ROLE) as made:
        found = {(await made.current()).access_key for _ in range(20)}
    assert (found, len(sts.asked)) == ({session_of(1)[0]}, 1)


async def test_requests_wait_when_they_are_about_to_end(sts: Sts) -> None:
    """Credentials that end within the minute are not used if others can be had; if not, they are, until they end."""
    sts.lasts = 50
    async with source(role_arn=ROLE) as made:
        first = await made.current()
        second = await made.current()
        assert (first.access_key, second.access_key) == (session_of(1)[0], session_of(2)[0])
        sts.refuses = (503, "ServiceUnavailable")
        assert await made.current() == second


async def test_those_that_have_ended_are_not_used(sts: Sts) -> None:
    """Where credentials have ended and no others can be had, that is the error."""
    sts.lasts = -5
    async with source(role_arn=ROLE) as made:
        with pytest.raises(errors.AdapterError):
            await made.current()


async def test_refused_ones_are_resolved_anew_once(aws_home: Path) -> None:
    """What AWS refuses is read again from its files by the next request; the same again is hopeless."""
    file = aws_home / "credentials"

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    write("AKIAOLD")
    async with source() as made:
        old = await made.current()
        write("AKIANEW")
        assert await made.current() == old
        assert made.refused(old)
        assert made.refused(old), "a second request that had been sent before may be repeated too"
        new = await made.current()
        assert new == Keys("AKIANEW", "s")
        assert made.refused(new)
        assert await made.current() == new
        assert not made.refused(new)
        write("AKIANEWER")
        assert (await made.current()).access_key == "AKIANEWER"
