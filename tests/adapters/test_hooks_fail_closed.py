"""Hooks cannot fail open: every loader, in every shape, with every kind of answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
import time

import pytest
from blockbuster import BlockingError

from async_jwt.core.concurrency import WORKERS
from async_jwt.errors import ConfigurationError, HookError, HookTimeoutError
from async_jwt.manager import Manager
from async_jwt.stores import MemoryStore
from tests.harness import SECRET
from tests.harness.applications import however_it_runs, on_a_servers_loop, on_both_kinds

pytestmark = pytest.mark.asyncio

HANG = object()
RAISE = object()

# What each loader may rightly answer, and how a request then ends.
GATES = {"token_in_blocklist": False, "token_verification": True}
RESPONSES = {
    "expired_token": "expired",
    "invalid_token": "malformed",
    "needs_fresh_token": "stale",
    "revoked_token": "revoked",
    "token_verification_failed": "unverified",
    "unauthorized": "absent",
    "user_lookup_error": "unknown user",
}
MAKERS = {
    "additional_claims": {"more": 1},
    "additional_headers": {"more": 1},
    "encode_key": SECRET,
    "user_identity": "alice",
}


def shaped(shape, answer):
    """A hook of some shape that gives some answer."""

    def plain(*_):
        if answer is RAISE:
            raise LookupError("the hook's own")
        if answer is HANG:
            time.sleep(0.2)
        return answer

    async def coroutine(*_):
        if answer is HANG:
            await asyncio.sleep(5)
        return plain()

    async def nested(*_):
        return coroutine()

    class Callable:
        def __call__(self, *_):
            return plain()

    class AsyncCallable:
        async def __call__(self, *_):
            return await coroutine()

    return {
        "async def": coroutine,
        "def": plain,
        "partial": functools.partial(plain),
        "partial of async def": functools.partial(coroutine),
        "callable object": Callable(),
        "async callable object": AsyncCallable(),
        "def that returns a coroutine": lambda *_: coroutine(),
        "async def that returns a coroutine": nested,
    }[shape]


SHAPES = (
    "async def",
    "def",
    "partial",
    "partial of async def",
    "callable object",
    "async callable object",
    "def that returns a coroutine",
    "async def that returns a coroutine",
)


def register(h, name, hook):
    getattr(h.jwt, f"{name}_loader")(hook)


async def ended(h, raised, **call):
    """The status and code of a request, or the application's own exception."""
    raised.clear()
    answer = await h.call(**call)
    return raised[0] if raised else (answer.status, answer.json.get("code"))


def own_errors(h):
    """What reaches the application's own handler for any exception."""
    raised = []

    async def handle(error):
        raised.append(type(error))
        return {}, 500

    h.app.register_error_handler(Exception, handle)
    return raised


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


few_shapes = pytest.mark.parametrize("shape", SHAPES[::2], indirect=True)
"""Where the gates have shown that all of them are called alike."""

WRONG = [None, 1, "no", RAISE, HANG]


def expected(answer, *, gate=True):
    if answer is RAISE:
        return LookupError
    if answer is HANG:
        return (503, "hook_timeout")
    return (500, "hook_error") if gate else None


def answering(h, name, shape, answers):
    """Registers hooks of one shape that give these answers, one after the other."""
    for answer in answers:
        h.app.config["JWT_HOOK_TIMEOUT"] = 0.02 if answer is HANG else None
        register(h, name, shaped(shape, answer))
        yield answer


@however_it_runs
@pytest.mark.parametrize("name", GATES)
async def test_gates(harness, name, shape):
    h = harness()
    raised = own_errors(h)
    for answer in answering(h, name, shape, [True, False, *WRONG]):
        if answer is GATES[name]:
            wanted = (200, None)
        elif answer is (not GATES[name]):
            wanted = (401, "token_revoked") if name == "token_in_blocklist" else (400, "claims_rejected")
        else:
            wanted = expected(answer)
        assert await ended(h, raised, token=await h.mint()) == wanted, answer


@however_it_runs
async def test_user_lookup(harness, shape):
    h = harness()
    raised = own_errors(h)
    for answer in answering(h, "user_lookup", shape, [{"name": "alice"}, False, *WRONG]):
        wanted = (401, "user_not_found") if answer is None else expected(answer, gate=False) or (200, None)
        assert await ended(h, raised, token=await h.mint()) == wanted, answer


@however_it_runs
async def test_decode_key(harness, shape):
    h = harness()
    raised = own_errors(h)
    token = await h.mint()
    for answer in answering(h, "decode_key", shape, [SECRET, False, "no", *WRONG]):
        if answer is None:  # "I know no such key" refuses the token
            wanted = (401, "token_invalid")
        else:
            wanted = (200, None) if answer is SECRET else expected(answer)
        assert await ended(h, raised, token=token) == wanted, answer


@on_both_kinds
@few_shapes
@pytest.mark.parametrize("name", MAKERS)
async def test_makers(harness, name, shape):
    h = harness()
    for answer in answering(h, name, shape, [MAKERS[name], False, *WRONG]):
        if answer is RAISE:
            with pytest.raises(LookupError):
                await h.mint()
        elif answer is HANG:
            with pytest.raises(HookTimeoutError):
                await h.mint()
        elif answer is MAKERS[name] or (name == "user_identity" and answer == "no"):
            assert (await h.call(token=await h.mint())).status == 200
        elif name == "user_identity":
            with pytest.raises(ValueError, match="Subject must be a string"):
                await h.mint()
        else:
            with pytest.raises(HookError, match=f"{name}_loader"):
                await h.mint()


@on_both_kinds
@few_shapes
@pytest.mark.parametrize("name", RESPONSES)
async def test_responses(harness, clock, name, shape):
    h = harness(clock=clock)
    raised = own_errors(h)
    call = await provoke(h, clock, RESPONSES[name])
    for answer in answering(h, name, shape, [({"mine": True}, 418), False, *WRONG]):
        if answer == "no":  # a text is a response, and the view still does not run
            assert (await h.call(**call)).body == b"no"
            continue
        wanted = (418, None) if isinstance(answer, tuple) else expected(answer)
        assert await ended(h, raised, **call) == wanted, answer


async def provoke(h, clock, refusal):
    """A request that is refused in some way."""
    if refusal == "absent":
        return {}
    if refusal == "malformed":
        return {"token": "x.y.z"}
    if refusal == "stale":
        return {"path": "/fresh", "token": await h.mint()}
    token = await h.mint()
    if refusal == "expired":
        clock.now += 3600
    elif refusal == "revoked":
        await h.jwt.revoke_token(token)
    elif refusal == "unverified":
        h.jwt.token_verification_loader(shaped("async def", False))
    elif refusal == "unknown user":
        h.jwt.user_lookup_loader(shaped("async def", None))
    return {"token": token}


async def test_a_hook_may_not_swallow_its_cancellation(harness):
    h = harness({"JWT_HOOK_TIMEOUT": 0.05})

    @h.jwt.token_verification_loader
    async def stubborn(header, claims):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return True
        return True

    assert (await h.call(token=await h.mint())).code == "hook_timeout"


async def test_a_hooks_own_timeout_error_is_its_own(harness):
    h = harness({"JWT_HOOK_TIMEOUT": 5})

    @h.jwt.token_verification_loader
    async def upstream(header, claims):
        raise TimeoutError("the database")

    assert await ended(h, own_errors(h), token=await h.mint()) is TimeoutError


async def test_plain_hooks_run_in_a_worker_thread_with_the_context(harness):
    h = harness()
    seen = {}

    @h.jwt.user_lookup_loader
    def load(header, claims):
        request = h.framework.request

        time.sleep(0.01)  # blockbuster would fail the test on the event loop
        seen.update(thread=threading.current_thread(), path=request.path)
        return claims["sub"]

    assert (await h.call(token=await h.mint())).json["user"] == "alice"
    assert seen["thread"] is not threading.main_thread()
    assert seen["path"] == "/me"


@pytest.mark.parametrize("harness", ["quart", "flask_async"], indirect=True)
async def test_abandoned_hooks_keep_their_slots(harness):
    h = harness({"JWT_HOOK_TIMEOUT": 0.5})
    release = threading.Event()
    running = []

    @h.jwt.user_lookup_loader
    def load(header, claims):
        running.append(1)
        release.wait(60)
        return claims["sub"]

    token = await h.mint()
    answers = await asyncio.gather(*(h.call(token=token) for _ in range(60)))
    assert {answer.status for answer in answers} == {503}
    assert len(running) == WORKERS
    release.set()
    for _ in range(100):
        if (await h.call(token=token)).status == 200:
            break
    assert (await h.call(token=token)).status == 200


@on_a_servers_loop
async def test_inline_hooks_run_on_the_loop(harness):
    h = harness()
    seen = []

    @h.jwt.user_lookup_loader(inline=True)
    def load(header, claims):
        seen.append(threading.current_thread())
        return claims["sub"]

    assert (await h.call(token=await h.mint())).json["user"] == "alice"
    assert seen == [threading.main_thread()]


@on_a_servers_loop
async def test_a_blocking_inline_hook_is_caught_by_the_guard_of_these_tests(harness):
    h = harness()

    @h.jwt.user_lookup_loader(inline=True)
    def load(header, claims):
        time.sleep(0.001)

    assert await ended(h, own_errors(h), token=await h.mint()) is BlockingError


@on_a_servers_loop
async def test_a_plain_hook_that_returns_an_awaitable_is_called_on_the_loop_from_then_on(harness):
    h = harness()
    threads = []

    async def work():
        return "alice"

    @h.jwt.user_lookup_loader
    def load(header, claims):
        threads.append(threading.current_thread() is threading.main_thread())
        return work()

    for _ in range(2):
        assert (await h.call(token=await h.mint())).json["user"] == "alice"
    assert threads == [False, True]


async def test_inline_hooks_cannot_be_timed(harness):
    with pytest.raises(ConfigurationError, match="JWT_HOOK_TIMEOUT"):
        harness({"JWT_HOOK_TIMEOUT": 1}).jwt.user_lookup_loader(inline=True)(lambda header, claims: 1)
    manager = harness.api.JWTManager()
    manager.user_lookup_loader(inline=True)(lambda header, claims: 1)
    h = harness({"JWT_HOOK_TIMEOUT": 1})
    other = h.make_app()
    other.config.update(JWT_SECRET_KEY=SECRET, JWT_HOOK_TIMEOUT=1)
    with pytest.raises(ConfigurationError, match="user_lookup_loader"):
        manager.init_app(other)
    h.jwt.user_lookup_loader(inline=True)(shaped("async def", "fine"))


@pytest.mark.parametrize("hook", [object(), "text", 7])
async def test_what_cannot_be_called_is_refused(harness, hook):
    with pytest.raises(ConfigurationError, match="callable"):
        harness().jwt.user_lookup_loader(inline=False)(hook)


async def test_generator_functions_are_refused(harness):
    def generator(header, claims):
        yield

    async def async_generator(header, claims):
        yield

    for hook in (generator, async_generator):
        with pytest.raises(ConfigurationError, match="generator"):
            harness().jwt.user_lookup_loader(hook)


async def test_under_compat_a_plain_gate_counts_by_its_truth_with_one_warning(harness, caplog):
    h = harness({"JWT_COMPAT": "flask-jwt-extended"})
    h.jwt.token_in_blocklist_loader(lambda header, claims: None)
    token = await h.mint()
    for _ in range(2):
        assert (await h.call(token=token)).status == 200
    assert caplog.text.count("its truth value is used") == 1
    h.jwt.token_in_blocklist_loader(lambda header, claims: "revoked:1")
    assert (await h.call(token=token)).status == 401


async def test_under_compat_an_async_gate_is_strict(harness):
    h = harness({"JWT_COMPAT": "flask-jwt-extended"})
    h.jwt.token_verification_loader(shaped("async def", "yes"))
    assert (await h.call(token=await h.mint())).status == 500


async def test_a_store_that_answers_no_bool_opens_no_door(harness):
    class Odd(MemoryStore):
        async def check(self, ref):
            return "yes"

    h = harness(store=Odd())
    assert (await h.call(token=await h.mint())).code == "hook_error"


async def test_a_store_that_answers_something_else_later_gives_no_token_either(harness):
    class Odd(MemoryStore):
        answer = True

        async def check(self, ref):
            return self.answer

    h = harness(store=Odd())

    @h.api.jwt_required()
    async def view():
        Odd.answer = 1
        return {"token": await h.api.create_access_token("alice")}

    h.view("/again", view)
    assert (await h.call("/again", token=await h.mint())).code == "token_revoked"


async def test_loader_attribute_documents_itself():
    assert "user of a token" in Manager.user_lookup_loader.__doc__


@on_a_servers_loop
async def test_inline_hooks_that_block_are_named_in_debug_mode(harness, caplog):
    caplog.set_level("WARNING", "async_jwt")
    h = harness()
    slow = []

    @h.jwt.user_lookup_loader(inline=True)
    def load(_header, claims):
        if slow:
            end = time.perf_counter() + 0.02
            while time.perf_counter() < end:
                pass
        return claims["sub"]

    token = await h.mint()
    slow.append(1)
    assert (await h.call(token=token)).status == 200
    assert caplog.records == []
    h.app.config["DEBUG"] = True
    assert (await h.call(token=token)).status == 200
    (record,) = caplog.records
    assert "user_lookup_loader(inline=True) blocked the event loop for" in record.getMessage()
    slow.clear()
    assert (await h.call(token=token)).status == 200
    assert len(caplog.records) == 1


@on_a_servers_loop
async def test_inline_hooks_that_raise_are_timed_as_well(harness, caplog):
    caplog.set_level("WARNING", "async_jwt.hooks")
    h = harness({"DEBUG": True, "PROPAGATE_EXCEPTIONS": False})

    @h.jwt.token_in_blocklist_loader(inline=True)
    def broken(_header, _claims):
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass
        raise ZeroDivisionError

    assert (await h.call(token=await h.mint())).status == 500
    assert "token_in_blocklist_loader(inline=True)" in caplog.text


@on_both_kinds
async def test_hooks_that_cannot_be_called_as_they_will_be_are_refused(harness):
    jwt = harness().jwt

    def one(header):
        return True

    async def three(self, header, claims):
        return True

    class Keyword:
        def __call__(self, *, header, claims):
            return True

    for hook in (one, three, Keyword(), functools.partial(three, 1, 2)):
        with pytest.raises(
            ConfigurationError, match=r"token_verification_loader calls its hook with \(jwt_he"
        ):
            jwt.token_verification_loader(hook)
    with pytest.raises(ConfigurationError, match=r"with \(message\), but three\(self, header, claims\) does"):
        jwt.unauthorized_loader(three)
    jwt.additional_claims_loader(one)
    jwt.token_verification_loader(functools.partial(three, 1))
    jwt.token_verification_loader(lambda header, claims, *, more=1: True)


@on_both_kinds
@pytest.mark.parametrize("kind", ["future", "generator", "async generator"])
@pytest.mark.parametrize("name", ["user_lookup", "user_identity"])
async def test_what_nobody_has_waited_for_is_no_answer(harness, name, kind, caplog):
    """As of `executor.submit(find)` without `.result()`: it is true whatever it comes to."""
    h = harness()
    token = await h.mint()

    async def items():
        yield None

    unfinished = {
        "future": concurrent.futures.Future,
        "generator": lambda: iter(x for x in ()),
        "async generator": items,
    }[kind]
    if name == "user_lookup":
        h.jwt.user_lookup_loader(lambda _header, _claims: unfinished())
        answer = await h.call(token=token)
        assert (answer.status, answer.code) == (500, "hook_error")
    else:
        h.jwt.user_identity_loader(lambda _user: unfinished())
        with pytest.raises(HookError, match="must return"):
            await h.mint()


async def test_decorators_that_hand_on_other_arguments_are_taken(harness):
    h = harness()

    def with_database(function):
        @functools.wraps(function)
        def call(*args):
            return function("database", *args)

        return call

    @h.jwt.user_lookup_loader
    @with_database
    def load(database, header, claims):
        return {"from": database}

    assert (await h.call(token=await h.mint())).json["user"] == {"from": "database"}


@on_both_kinds
async def test_classes_whose_instances_are_no_answer_are_refused(harness):
    jwt = harness().jwt

    class Check:
        def __init__(self, header, claims):
            pass

    class Claims(dict):
        pass

    for loader in (jwt.token_verification_loader, jwt.token_in_blocklist_loader, jwt.decode_key_loader):
        with pytest.raises(ConfigurationError, match="cannot take the class Check"):
            loader(Check)
    with pytest.raises(ConfigurationError, match="cannot take the class Check: the hook must return a dict"):
        jwt.additional_claims_loader(Check)
    jwt.additional_claims_loader(Claims)
    jwt.user_lookup_loader(Check)


@on_both_kinds
async def test_functions_that_do_not_say_what_they_take_are_taken(harness):
    jwt = harness().jwt
    jwt.additional_claims_loader(inline=False)(dict)
    jwt.user_lookup_loader(max)
