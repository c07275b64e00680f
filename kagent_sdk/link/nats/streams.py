"""Streams and buckets: found as an operator has made them, or else made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.limits import NatsLimits

Found = TypeVar("Found")

_ALREADY_THERE = (10058, 10013, 10148)
"""Codes of the server for a stream or consumer that somebody else has made just now, otherwise."""


async def open_tasks(js: JetStreamContext, limits: NatsLimits) -> KeyValue:
    """Return the bucket with the records of tasks."""
    return await _open_bucket(js, names.TASKS, "records of tasks", limits.keep_s)


async def open_agents(js: JetStreamContext, limits: NatsLimits) -> KeyValue:
    """Return the bucket with the agents that are there."""
    return await _open_bucket(js, names.AGENTS, "agents that are there", limits.registry_ttl_s)


async def open_blobs(js: JetStreamContext, limits: NatsLimits) -> ObjectStore:
    """Return the object store for large bodies."""
    return await open_store(js, names.BLOBS, limits.keep_s)


async def open_store(js: JetStreamContext, bucket: str, keep_s: float | None) -> ObjectStore:
    """Return an object store; with ``keep_s`` None its objects stay until they are removed."""

    async def make() -> ObjectStore:
        return await js.create_object_store(
            bucket, config=api.ObjectStoreConfig(bucket=bucket, ttl=keep_s)
        )

    return await _find_or_make(lambda: js.object_store(bucket), make)


async def open_events(js: JetStreamContext, limits: NatsLimits) -> None:
    """Make sure that events are kept."""
    await _open_stream(
        js,
        api.StreamConfig(
            name=names.EVENTS,
            subjects=[names.EVENT_SUBJECTS],
            max_age=limits.keep_s,
            max_msgs_per_subject=limits.max_events,
            duplicate_window=limits.dedup_s,
            allow_direct=True,
        ),
    )


async def open_dead(js: JetStreamContext, limits: NatsLimits) -> None:
    """Make sure that tasks which are given up are kept for a person to look at."""
    await _open_stream(
        js,
        api.StreamConfig(
            name=names.DEAD,
            subjects=[names.DEAD_SUBJECTS],
            max_age=7 * limits.keep_s,
            max_msgs=limits.max_waiting,
            duplicate_window=limits.dedup_s,
            allow_direct=True,
        ),
    )


async def open_queue(
    js: JetStreamContext, agent: str, capability: str, limits: NatsLimits
) -> tuple[str, float]:
    """Make sure that an agent's capability has a stream, and its replicas a consumer of it.

    Returns:
        The name of the stream, and how long the server waits for an acknowledgement, in seconds.
    """
    stream = names.tasks_stream(agent, capability)
    await _open_stream(
        js,
        api.StreamConfig(
            name=stream,
            description=f"tasks of {agent}/{capability}",
            subjects=[names.tasks_subject(agent, capability)],
            retention=api.RetentionPolicy.WORK_QUEUE,
            discard=api.DiscardPolicy.NEW,
            max_msgs=limits.max_waiting,
            duplicate_window=limits.dedup_s,
        ),
    )
    config = api.ConsumerConfig(
        durable_name=names.CONSUMER,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=limits.ack_wait_s,
        # Attempts are counted in the records: a replica without room costs none.
        max_deliver=-1,
        max_ack_pending=limits.max_waiting,
    )
    info = await _find_or_make(
        lambda: js.consumer_info(stream, names.CONSUMER), lambda: js.add_consumer(stream, config)
    )
    return stream, info.config.ack_wait or limits.ack_wait_s


async def bucket_ttl_s(bucket: KeyValue) -> float | None:
    """Return how long values stay in a bucket; None for always."""
    return (await bucket.status()).ttl or None


async def _open_bucket(
    js: JetStreamContext, bucket: str, description: str, ttl_s: float
) -> KeyValue:
    async def make() -> KeyValue:
        return await js.create_key_value(
            api.KeyValueConfig(bucket=bucket, description=description, ttl=ttl_s, direct=True)
        )

    return await _find_or_make(lambda: js.key_value(bucket), make)


async def _open_stream(js: JetStreamContext, config: api.StreamConfig) -> None:
    assert config.name is not None
    name = config.name
    await _find_or_make(lambda: js.stream_info(name), lambda: js.add_stream(config))


async def _find_or_make(
    find: Callable[[], Awaitable[Found]], make: Callable[[], Awaitable[Found]]
) -> Found:
    try:
        return await find()
    except (NotFoundError, BucketNotFoundError):
        pass
    try:
        return await make()
    except APIError as exc:
        if exc.err_code not in _ALREADY_THERE:
            raise
        return await find()
