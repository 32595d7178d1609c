"""The engine: everything that one application authenticates with, under one set of settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any, Final, cast

from async_jwt.clock import Clock
from async_jwt.core import claims as claim_set
from async_jwt.core.codec import Codec, Decoded, Verified, encoder_of
from async_jwt.core.compact import object_in
from async_jwt.core.concurrency import run_hook
from async_jwt.core.cookie_scope import ANY, check_scope
from async_jwt.core.hooks import Hook, Hooks, checked
from async_jwt.core.issuer_registry import Ask, IssuerRegistry
from async_jwt.core.issuer_tokens import IssuerTokens, plain_ref, ref_of_claims
from async_jwt.core.key_loading import refresh, ring_of
from async_jwt.core.observer import Observer
from async_jwt.core.settings import Settings
from async_jwt.errors import AlgorithmError, ConfigurationError, HookError, JWTDecodeError, SignatureError
from async_jwt.issuers.issuer import Issuer
from async_jwt.keys.key import ALGORITHMS, Key
from async_jwt.keys.ring import ActiveKeys, KeyRing
from async_jwt.stores.contract import (
    AccessExpiryStore,
    RefusalStore,
    SessionStore,
    SingleUseStore,
    Store,
    TokenRef,
)

__all__ = ["Engine"]

_LOADED_KEYS = 64

UNTOLD: Final = (
    "user_lookup_loader needs a third parameter, (jwt_header, jwt_data, issuer), because this application "
    "accepts tokens of several issuers, itself included: the same `sub` at two issuers is two people. "
    "`issuer` is None for a token of its own"
)


class Engine:
    """Settings, keys, codec, hooks, store and clock. Rebuilt when the settings change.

    Args:
        settings: the settings.
        hooks: the application's hooks.
        ring: the keys; None builds them from the settings at first use.
        store: the revocation store.
        clock: returns seconds since the epoch.
        json_default: converts values that JSON does not support, as the framework's JSON does.
        observer: measures checks, hooks and store calls; None measures nothing.
        registry: the other issuers whose tokens are accepted; None if there are none.

    Attributes:
        issuers: the tokens of other issuers; None if none are accepted.
        encoder: writes the JSON of tokens.
        sessions: the store, if it also keeps sessions; else None.
        refusals: the store, if it also says why it refuses a token; else None.
        has_keys_of_settings: whether the keys come from single key settings, not a ring or a folder.
        loads_keys: whether the ring has a loader.
        waits: whether a check needs a long-lived event loop, whatever hooks there are.
        scope: the cookie scope that tokens must have been made in: its name, None for none, or `ANY`.
        scoped: this engine for each cookie scope that was seen.
    """

    def __init__(
        self,
        settings: Settings,
        hooks: Hooks,
        ring: KeyRing | None,
        store: Store,
        clock: Clock,
        json_default: Callable[[Any], Any],
        observer: Observer | None = None,
        registry: IssuerRegistry | None = None,
    ) -> None:
        self.scope: object = ANY
        self.scoped: dict[object, Engine] = {}
        self._base: Engine | None = None
        store = store if observer is None else observer.store(store)
        self.observer = observer
        self.settings = settings
        self.hooks = hooks
        self.store = store
        self.sessions: SessionStore | None = store if isinstance(store, SessionStore) else None
        self.refusals: RefusalStore | None = store if isinstance(store, RefusalStore) else None
        self.clock = clock
        self.json_default = json_default
        self.encoder: json.JSONEncoder = encoder_of(json_default)
        # The keys of a given ring, or of a folder, are pinned to their algorithms: these decide.
        self.has_keys_of_settings: bool = ring is None and settings.key_folder is None
        self.codec: Codec = Codec(settings, None if self.has_keys_of_settings else ALGORITHMS)
        self.issuers: IssuerTokens | None = None
        if registry is not None:
            self.issuers = IssuerTokens(registry, settings, self.codec, clock)
        self._ring = ring
        self.loads_keys: bool = settings.key_folder is not None or (ring is not None and ring.has_loader)
        # An event loop is needed to wait, or to enforce a time limit.
        waits = settings.hook_timeout is not None or not getattr(store, "awaits_nothing", False)
        self.waits: bool = waits or self.loads_keys or registry is not None
        # Keyed by digest, so as not to keep the loaders' secrets here.
        self._loaded: dict[tuple[str, bytes], Key] = {}

    def in_scope(self, scope: object, settings: Settings) -> Engine:
        """Return this engine for requests of one cookie scope.

        Args:
            scope: the scope's name; None for none, `NONE` to accept no token.
            settings: the settings with the scope's cookie names and paths.
        """
        other = copy(self)
        other.scope, other.settings, other._base = scope, settings, self  # noqa: SLF001  # of this class
        return other

    @property
    def ring(self) -> KeyRing:
        """The keys.

        Raises:
            ConfigurationError: a setting that names a key is missing or wrong.
        """
        if self._ring is None and self._base is not None:
            self._ring = self._base.ring  # all scopes share it
        elif self._ring is None:
            elsewhere = self.settings.is_compat or "decode_key" in self.hooks
            only_accepts = self.issuers is not None
            self._ring = ring_of(self.settings, all_verify=not elsewhere, may_be_empty=only_accepts)
        return self._ring

    @property
    def needs_loop(self) -> bool:
        """True if a check needs a long-lived event loop, such as to load keys in the background."""
        return self.waits or self.hooks.any_async()

    async def is_valid(self, verified: Verified) -> Any:
        """What the store says of a token: True if it is valid, also under its former name if that counts."""
        valid = await self.store.check(verified.ref)
        source = verified.source
        if valid is not True or source is None or source.issuer.revoked_as is None:
            return valid
        return await self.store.check(plain_ref(verified.ref, verified.claims, self.settings))

    @property
    def single_use(self) -> SingleUseStore:
        """The store, which must use tokens once. Raises ConfigurationError if it does not."""
        store = self._capable(SingleUseStore, "consume_token", "to use tokens once")
        return cast("SingleUseStore", store)

    @property
    def access_expiry(self) -> AccessExpiryStore:
        """The store, which must end access tokens only. Raises ConfigurationError if it does not."""
        store = self._capable(AccessExpiryStore, "expire_access_tokens", "to end access tokens only")
        return cast("AccessExpiryStore", store)

    def _capable(self, protocol: Any, method: str, purpose: str) -> Any:
        store: Any = self.store
        if not isinstance(store, protocol):
            raise ConfigurationError(
                f"{type(store).__name__} has no {method}(): {purpose}, use a store that has the method of "
                f"async_jwt.stores.{protocol.__name__}"
            )
        return store

    async def call_hook(self, given: str | Hook, *args: Any) -> Any:
        """The result of a hook: one of a view's own, or a registered one by name; None if there is none.

        Raises:
            HookError: it returned something that it may not.
            HookTimeoutError: it took longer than `JWT_HOOK_TIMEOUT`.
            Exception: whatever it raised.
        """
        hook = self.hooks.get(given) if isinstance(given, str) else given
        if hook is None:
            return None
        if self.observer is None:
            return await self._answer_of(hook, args)
        with self.observer.measure("hook", hook.name):
            return await self._answer_of(hook, args)

    async def _answer_of(self, hook: Hook, args: tuple[Any, ...]) -> Any:
        answer = await run_hook(hook, *args, limit=self.settings.hook_timeout, watch=self.settings.debug)
        return checked(hook, answer, truth_counts=self.settings.is_compat)

    async def decode(self, token: Any, *, allow_expired: bool = False) -> Decoded:
        """Verify and read a token. Raises what `verify` and `Codec.read` raise."""
        verified = await self._verify_text(token)
        return self.codec.read(verified, self.clock(), allow_expired=allow_expired)

    async def ref_of(self, token: Any) -> TokenRef:
        """Verify a token that is valid now; return it as stores know it. Raises what `decode` raises."""
        verified = await self._verify_text(token)
        self.codec.check_times(verified, self.clock())
        check_scope(verified.claims, self.scope)
        return verified.ref

    async def _verify_text(self, token: Any) -> Verified:
        if not isinstance(token, str):
            self.codec.inspect(token)  # always raises: says what it is instead
        return await self.verify(token)

    def verify_at_once(self, token: str, now: float, *, is_own: bool = False) -> Verified | None:
        """Check a token without waiting; None if its key must be loaded first, or its issuer looked up.

        Args:
            token: the token's text.
            now: seconds since the epoch.
            is_own: whether it is known to be no other issuer's.

        Raises:
            JWTDecodeError: it is not accepted.
            ConfigurationError: there is no key.
        """
        if self.issuers is not None and not is_own:
            return self.issuers.recall(token, now) or self._recall_own(token, now)
        if "decode_key" in self.hooks:
            return None
        ring = self._ring or self.ring
        if ring.is_loaded:
            return None
        keys = ring.active
        if not keys.since <= now < keys.until:
            keys = ring.at(now)
        return self.codec.verify(token, keys)

    def _recall_own(self, token: str, now: float) -> Verified | None:
        """A token of our own that is remembered. Any other may be another issuer's."""
        ring = self.ring
        if "decode_key" in self.hooks or ring.is_loaded:
            return None
        return self.codec.known(token, ring.at(now))

    async def verify(self, token: str) -> Verified:
        """Check a token with its issuer's keys, with one from the application's loader, or with the ring's.

        Raises:
            JWTDecodeError: it is not accepted.
            WrongTokenError: it is another issuer's, and not an access token.
            IssuerUnavailableError: no key of its issuer is known, because the issuer cannot be reached.
            ConfigurationError: there is no key.
        """
        if self.issuers is not None:
            foreign = await self.issuers.verify(token, self._ask)
            if foreign is not None:
                return foreign
        verified = self.verify_at_once(token, self.clock(), is_own=True)
        if verified is not None:
            return verified
        if "decode_key" not in self.hooks:
            return await self._verify_loaded(token)
        parts, header = self.codec.inspect(token)
        if header.algorithm not in self.settings.accepted_algorithms:
            raise AlgorithmError("The specified alg value is not allowed")
        claims, _ = object_in(parts.payload, "payload")
        # The loader gets copies, so that it cannot change the token that is verified.
        material = await self.call_hook("decode_key", deepcopy(header.parameters), claims)
        if material is None:  # as `KEYS.get(header.get("kid"))` returns
            raise SignatureError("No key is known for this token")
        key = self._loaded_key("decode_key", material, header.algorithm)
        return self.codec.verify_with(token, parts, header, key)

    @property
    def has_several_issuers(self) -> bool:
        """True if tokens of more than one issuer are accepted, this application counted."""
        if self.issuers is None:
            return False
        count = len(self.issuers.registry.configured)
        makes_own = bool(self.ring.keys or self.ring.is_loaded or "decode_key" in self.hooks)
        return count + makes_own > 1 or "issuer" in self.hooks

    def refuse_untold_lookup(self) -> None:
        """Refuse a user lookup that would take users of one issuer for those of another.

        Raises:
            ConfigurationError: it is not told whose token it is.
        """
        hook = self.hooks.get("user_lookup")
        if hook is not None and not hook.takes_issuer and self.has_several_issuers:
            raise ConfigurationError(UNTOLD)

    @property
    def _ask(self) -> Ask | None:
        """Calls `issuer_loader`; None if there is none."""
        return partial(self.call_hook, "issuer") if "issuer" in self.hooks else None

    def issuer_of(self, claims: Mapping[str, Any]) -> Issuer | None:
        """The other issuer that made a token with these claims; None for our own, and an unknown one."""
        named = claims.get("iss")
        if self.issuers is None or not isinstance(named, str):
            return None
        source = self.issuers.registry.known(named)
        return None if source is None else source.issuer

    def identity_in(self, claims: Mapping[str, Any]) -> Any:
        """The identity that a token with these claims names; None if it names none."""
        issuer = self.issuer_of(claims)
        if issuer is None:
            return claims.get(self.settings.identity_claim)
        try:
            return issuer.identity_of(claims)
        except JWTDecodeError:
            return None

    async def ref_of_claims(self, claims: Mapping[str, Any]) -> TokenRef:
        """A token with these claims, as stores know it.

        Raises:
            JWTDecodeError: the claim set has the wrong shape.
            ValueError: nothing tells whose token it is: its issuer is unknown.
        """
        source = None if self.issuers is None else await self.issuers.find(claims, self._ask)
        if source is not None:
            issued, _, end = claim_set.times_of(claims, strict=True)
            return ref_of_claims(claims, source.issuer, self.settings, issued, end)
        named, ours = claims.get("iss"), (self.settings.encode_issuer, *(self.settings.decode_issuer or ()))
        if self.issuers is not None and "issuer" in self.hooks and named is not None and named not in ours:
            raise ValueError(f"issuer_loader does not know the issuer {named!r:.200}: pass the encoded token")
        # A token without `jti` decodes to `jti` None, which no token may contain.
        held = {name: value for name, value in claims.items() if (name, value) != ("jti", None)}
        return claim_set.check_shape(held, self.settings, own=False)[-1]

    async def _verify_loaded(self, token: str) -> Verified:
        keys = await self.active_keys()
        try:
            return self.codec.verify(token, keys)
        except SignatureError:
            _, header = self.codec.inspect(token)
            if keys.knows(header.algorithm, header.kid):
                raise
        # Perhaps another process signs with a key that this one has not loaded yet.
        await self._load(unknown=True)
        return self.codec.verify(token, self.ring.at(self.clock()))

    async def active_keys(self) -> ActiveKeys:
        """The keys that are active now, loaded first if that is due.

        Raises:
            ConfigurationError: a setting that names a key is missing or wrong.
            HookError: the loader failed, and there are no earlier keys to use.
        """
        ring = self.ring
        if ring.is_loaded:
            await self._load()
            if not ring.keys:
                raise HookError("The keys could not be loaded")
        return ring.at(self.clock())

    async def _load(self, *, unknown: bool = False) -> None:
        await refresh(self.ring, self.clock, self.settings.hook_timeout, unknown=unknown)

    async def signing_key(self, identity: Any) -> Key:
        """The key that signs a new token for this identity (as the application passed it)."""
        if "encode_key" not in self.hooks:
            return (await self.active_keys()).signing
        material = await self.call_hook("encode_key", identity)
        key = self._loaded_key("encode_key", material, self.settings.algorithm)
        if not key.can_sign:
            raise HookError("encode_key_loader returned a key that cannot sign")
        return key

    def _loaded_key(self, hook: str, material: Any, algorithm: str) -> Key:
        """A loader's key for one algorithm, parsed once.

        If the key fits another accepted algorithm, but not the token's, the token is at fault
        and is refused. If it fits none, the loader is at fault.
        """
        if isinstance(material, Key):
            return self._in_time(hook, material)
        memory = (algorithm, _digest(material)) if isinstance(material, str | bytes) else None
        known = None if memory is None else self._loaded.get(memory)
        if known is not None:
            return known
        try:
            key = self._key(material, algorithm)
        except ConfigurationError as problem:
            if hook == "decode_key" and self._fits_another(material, algorithm):
                raise AlgorithmError("The specified alg value is not allowed") from None
            raise HookError(f"{hook}_loader: {problem}") from None
        if memory is not None:
            if len(self._loaded) >= _LOADED_KEYS:
                self._loaded.clear()
            self._loaded[memory] = key
        return key

    def _in_time(self, hook: str, key: Key) -> Key:
        """A loader's key, if its own times allow its use now, as in a ring."""
        now = self.clock()
        if hook == "decode_key" and now >= key.accepted_until:
            raise SignatureError("This token's key is past its accepted_until")
        if hook == "encode_key" and not key.signs_from <= now < key.accepted_until:
            raise HookError(
                f"encode_key_loader returned {key!r}, which cannot sign now: check its signs_from and "
                "accepted_until"
            )
        return key

    def _fits_another(self, material: Any, algorithm: str) -> bool:
        for other in self.settings.accepted_algorithms:
            if other != algorithm:
                try:
                    self._key(material, other)
                except ConfigurationError:
                    continue
                return True
        return False

    def _key(self, material: Any, algorithm: str) -> Key:
        return Key(material, algorithm, min_secret_bytes=self.settings.min_secret_bytes)


def _digest(material: str | bytes) -> bytes:
    # Text that is not valid UTF-8 is not a key either; `Key` reports it.
    data = material.encode("utf-8", "surrogatepass") if isinstance(material, str) else material
    return hashlib.sha256(data).digest()
