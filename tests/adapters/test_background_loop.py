"""The background loop: what it runs, how it ends, and what it survives."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import flask
import pytest

from async_jwt.adapters import _background_loop as module
from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters._background_loop import BackgroundLoop, background_loop
from async_jwt.core.concurrency import in_thread, run_without_loop
from tests.harness import SECRET

variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def home():
    home = BackgroundLoop()
    yield home
    home.stop()
    assert not home.is_alive


async def answer(value):
    await asyncio.sleep(0)
    return value


def test_it_runs_coroutines_one_after_the_other_on_one_loop(home):
    async def where():
        return asyncio.get_running_loop(), threading.current_thread()

    assert home.run(where()) == home.run(where())
    assert home.run(where())[1] is not threading.current_thread()
    assert home.run(answer(7)) == 7


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_is_raised_is_the_callers_and_the_loop_lives_on(home, error):
    async def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        home.run(fail())
    assert caught.value is error
    assert home.run(answer(1)) == 1


def test_context_variables_go_in_and_come_back(home):
    async def change():
        seen = variable.get()
        variable.set(f"{seen} there")
        return seen

    token = variable.set("here")
    try:
        assert home.run(change()) == "here"
        assert variable.get() == "here there"
        assert asyncio.run(home.wait(change())) == "here there"
    finally:
        variable.reset(token)


async def _context_after_waiting(home):
    async def change():
        variable.set("there")

    await home.wait(change())
    return variable.get()


def test_context_variables_come_back_to_a_coroutine(home):
    assert asyncio.run(_context_after_waiting(home)) == "there"


def test_a_stepping_threads_context_does_not_step_on_the_loop(home):
    async def nested():
        return await answer(1)

    async def outer():
        return home.run(nested())

    assert run_without_loop(outer(), home.run) == 1


def test_blocking_on_the_loop_itself_is_refused_and_waiting_there_is_not(home):
    async def block():
        return home.run(answer(1))

    async def block_on_a_future():
        return home.run(asyncio.ensure_future(answer(1)))

    async def wait():
        return await home.wait(answer(2))

    for blocking in (block, block_on_a_future):
        with pytest.raises(RuntimeError, match="await the function of the same name"):
            home.run(blocking())
    assert home.run(wait()) == 2


def test_a_cancelled_coroutine_cancels_what_it_waits_for(home):
    ended = threading.Event()

    async def last():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await home.wait(last())

    asyncio.run(main())
    assert ended.wait(5)


def test_an_interrupted_thread_cancels_what_it_waits_for(home):
    ended = threading.Event()

    async def last():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            home.run(last())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended.wait(5)


def test_what_is_in_flight_when_it_stops_is_told():
    home = BackgroundLoop()
    begun, events = threading.Event(), []

    async def last():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            events.append("cleaned up")

    def call():
        try:
            home.run(last())
        except BaseException as error:  # noqa: BLE001  # whatever it is
            events.append(type(error).__name__)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(5)
    home.stop()
    thread.join(5)
    assert events == ["cleaned up", "CancelledError"]
    home.stop()
    # Cancelling what has ended with its loop is nothing to fail over.
    home._cancel(None)


def test_an_answer_that_comes_after_the_caller_gave_up_is_dropped():
    async def main():
        task = asyncio.ensure_future(answer(1))
        await task
        future = Future()
        future.cancel()
        module._settle(future, task)
        return future

    assert asyncio.run(main()).cancelled()


def test_the_process_has_one_and_a_dead_one_is_replaced():
    first = background_loop()
    assert background_loop() is first
    first.stop()
    second = background_loop()
    assert second is not first
    assert second.run(answer(1)) == 1


def test_many_threads_start_one(monkeypatch):
    monkeypatch.setattr(module, "_process_loop", None)
    found = []
    threads = [threading.Thread(target=lambda: found.append(background_loop())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    found[0].stop()


def test_a_fork_has_its_own(monkeypatch):
    monkeypatch.setattr(module, "_process_loop", background_loop())
    monkeypatch.setattr(module, "_lock", module._lock)
    module._after_fork()
    assert module._process_loop is None
    module._at_exit()


def test_it_is_stopped_at_the_end_of_the_process(monkeypatch):
    home = BackgroundLoop()
    monkeypatch.setattr(module, "_process_loop", home)
    module._at_exit()
    assert not home.is_alive


SCRIPT = """
import asyncio, contextlib, os, sys, threading
from async_jwt.adapters._background_loop import background_loop

async def pid():
    await asyncio.sleep(0)
    return os.getpid()

assert background_loop().run(pid()) == os.getpid()
child = os.fork()
if child == 0:
    os._exit(0 if background_loop().run(pid()) == os.getpid() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

async def last():
    begun.set()
    await asyncio.sleep(60)

def wait():
    with contextlib.suppress(BaseException):  # a daemon that prints while the process ends may kill it
        background_loop().run(last())

begun = threading.Event()
threading.Thread(target=wait, daemon=True).start()
begun.wait()
print("over", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_forks_and_ends_with_something_in_flight():
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
    assert time.monotonic() - started < 20


def test_a_store_that_only_says_it_awaits_nothing_is_found_out():
    with pytest.raises(RuntimeError, match="awaits_nothing"):
        run_without_loop(asyncio.sleep(0), lambda awaitable: None)


def test_what_a_stepping_thread_hands_over_does_not_step(home):
    """Plain hooks of an async one run in a worker thread there, and not on the loop."""

    async def handed_over():
        return await in_thread(threading.current_thread), threading.current_thread()

    async def stepping():
        return home.run(handed_over())

    worker, loop = run_without_loop(stepping(), home.run)
    assert worker is not loop


def test_a_view_that_blocks_the_shared_loop_is_named_in_debug_mode(caplog, nothing_blocks):
    nothing_blocks.deactivate()
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_SHARED_LOOP=True, DEBUG=True)
    jwt = flask_adapter.JWTManager(app)
    was = background_loop()._loop.get_debug()

    @app.get("/blocks")
    @flask_adapter.jwt_required()
    async def blocks_for_long():
        time.sleep(0.15)  # noqa: ASYNC251  # what is to be found
        return {}

    bearer = {"Authorization": f"Bearer {asyncio.run(jwt.create_access_token('alice'))}"}
    try:
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(2):
                assert app.test_client().get("/blocks", headers=bearer).status_code == 200
    finally:
        background_loop()._loop.set_debug(was)
    assert any("blocks_for_long" in line and "took" in line for line in caplog.messages)
