"""``POST /v1/snapshots``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from kagent_sdk.config.models import HttpConfig
from kagent_sdk.host.http.answers import json_response
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.snapshots import SnapshotBusyError, Snapshots, SnapshotUnavailableError
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.headers import parse_prefer
from kagent_sdk.protocol.json_text import JsonTextError, check_json
from kagent_sdk.protocol.problem import RequestError

if TYPE_CHECKING:
    from kagent_sdk.snapshots.creation import Made

MAX_BODY_BYTES = 4096
"""Over anything that the body may say."""

RETRY_S = 1.0


class SnapshotRoute:
    """Answers requests for a snapshot.

    Args:
        snapshots: makes them.
        lifecycle: a stopping agent makes none.
        config: bounds of a body, but for its size.
        status: returns the part of ``/status`` about snapshots as JSON.
        describe: returns a snapshot that was made as JSON.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        lifecycle: Lifecycle,
        config: HttpConfig,
        *,
        status: Callable[[], Awaitable[bytes]],
        describe: Callable[[Made], Awaitable[bytes]],
    ) -> None:
        self._snapshots = snapshots
        self._lifecycle = lifecycle
        self._bodies = BodyReader(config.model_copy(update={"max_body_bytes": MAX_BODY_BYTES}))
        self._status = status
        self._describe = describe

    async def create(self, request: BaseRequest) -> Response:
        """Make a snapshot: 201 when it is made, 202 when the client does not wait so long."""
        cache = parse_order(await self._bodies.read(request))
        prefer = parse_prefer(request.headers.get("Prefer"))
        if self._lifecycle.is_ending:
            raise RequestError(problems.draining(RETRY_S))
        try:
            pending = self._snapshots.ask(cache=cache)
        except SnapshotBusyError:
            raise RequestError(problems.snapshot_running()) from None
        except SnapshotUnavailableError:
            raise RequestError(problems.starting(RETRY_S)) from None
        if not prefer.respond_async:
            try:
                async with asyncio.timeout(prefer.wait_s):
                    # Shielded: the snapshot is made whether this client waits for it or not.
                    await asyncio.shield(pending)
            except TimeoutError:
                pass  # the answer says where to look
        if not pending.done():
            headers = {"Location": "/status", "Preference-Applied": prefer.applied}
            return json_response(await self._status(), 202, headers)
        outcome = pending.result()
        if outcome.is_abandoned:
            raise RequestError(problems.draining(RETRY_S))
        if outcome.made is None:
            raise RequestError(problems.snapshot_failed(outcome.reason))
        return json_response(await self._describe(outcome.made), 201)


def parse_order(body: bytes) -> bool | None:
    """Read the body: nothing, or ``{"cache": true}``; return what it says of the cache.

    Raises:
        RequestError: it says something else.
    """
    if not body:
        return None
    try:
        check_json(body)
    except JsonTextError as exc:
        raise RequestError(problems.invalid_json(str(exc))) from None
    pairs = json.loads(body, object_pairs_hook=tuple)
    if not isinstance(pairs, tuple):
        raise RequestError(problems.invalid_request([_wrong("", "must be an object", "dict_type")]))
    cache: object = None
    for count, (key, value) in enumerate(pairs):
        if key != "cache":
            raise RequestError(problems.unknown_key(key, ("cache",)))
        if count:
            raise RequestError(problems.invalid_json("the key 'cache' comes twice"))
        cache = value
    if cache is not None and not isinstance(cache, bool):
        raise RequestError(
            problems.invalid_request([_wrong("cache", "must be true or false", "bool_type")])
        )
    return cache


def _wrong(key: str, message: str, kind: str) -> dict[str, object]:
    return {"loc": [key] if key else [], "msg": message, "type": kind}
