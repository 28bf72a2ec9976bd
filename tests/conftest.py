"""What every test shares: where the recordings are, the switch for live tests, and the search for leaks."""

import asyncio
import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from coverage import Coverage
from hypothesis import settings
from tests.real_postgres import RealPostgres, real_postgres

ROOT = Path(__file__).resolve().parent.parent

# Machines differ in speed: a property is true or false, never too slow. CI tries the same examples each time.
settings.register_profile("execution-platform", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("execution-platform")

SECONDS_TO_END = 2.0
"""How long a task that is already ending may take to end, before it counts as leaked."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --run-live."""
    parser.addoption(
        "--run-live",
        action="store_true",
        help="run the tests marked live: they talk to real providers and spend money",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hide the AWS of whoever runs this, unless real providers are meant: Bedrock would find it by itself."""
    if config.getoption("--run-live"):
        return
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the live tests unless they were asked for."""
    if config.getoption("--run-live"):
        return
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(pytest.mark.skip(reason="live test: needs --run-live and a key"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no coverage while a test that is marked `unmeasured` runs, which halves its time."""
    with contextlib.ExitStack() as stack:
        if item.get_closest_marker("unmeasured"):
            stack.enter_context(_unmeasured())
        return (yield)


@contextlib.contextmanager
def _unmeasured() -> Iterator[None]:
    """Hold up what measures coverage, here and in processes that are started meanwhile."""
    measuring, told = Coverage.current(), os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    if measuring is not None:
        measuring.stop()
    try:
        yield
    finally:
        if told is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = told
        if measuring is not None:
            measuring.start()


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded provider traffic, which lies beside the repository."""
    folder = ROOT.parent / "shared" / "recordings"
    if not folder.is_dir():
        pytest.skip("recordings not there: expected in ../shared/recordings beside the repository")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[RealPostgres]:
    """One PostgreSQL server for all tests that only want a database of their own in it."""
    with real_postgres() as server:
        yield server


@pytest.fixture(autouse=True)
def _leaks(request: pytest.FixtureRequest) -> None:
    """Give every asynchronous test the search for leaked tasks, before any other fixture."""
    test = getattr(request.node, "obj", None)
    property_test = getattr(test, "hypothesis", None)  # hypothesis wraps the coroutine function
    if inspect.iscoroutinefunction(getattr(property_test, "inner_test", test)):
        request.getfixturevalue("_no_task_left")


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves tasks running in its loop once all its fixtures are taken down."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=SECONDS_TO_END)
    if left:
        names = ", ".join(f"{task.get_name()} in {task.get_coro()}" for task in left)
        pytest.fail(f"left running: {names}", pytrace=False)
