"""A platform for each test that asks for one."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.clients.platform_server import Platform, serving

from execution_platform.client import AsyncExecutionPlatformClient, ExecutionPlatformClient


@pytest.fixture
def platform() -> Platform:
    """Answers by saying again what it was told, until a test says otherwise."""
    return Platform()


@pytest.fixture
def target(platform: Platform) -> Iterator[str]:
    """Where the platform serves."""
    with serving(platform) as address:
        yield address


@pytest.fixture
def client(target: str) -> Iterator[ExecutionPlatformClient]:
    """A client of the platform."""
    with ExecutionPlatformClient(target) as made:
        yield made


@pytest.fixture
async def async_client(target: str) -> AsyncIterator[AsyncExecutionPlatformClient]:
    """An asynchronous client of the platform."""
    async with AsyncExecutionPlatformClient(target) as made:
        yield made
