"""Every error that kagent_sdk raises, in one tree.

::

    Exception
    └── KagentError                 base of all of ours: `except KagentError` catches the lot
        ├── DeclarationError        an author's function cannot become a capability, loop or hook
        ├── ConfigError             config.yaml or the environment is wrong (exit code 78)
        │   └── VaultError          secrets/vault.json is missing a key, malformed or unsafe (78)
        │       └── WebhookSecretError  a secret that signs webhooks is malformed
        ├── WebhookSignatureError   a webhook does not come from who it says, or not just now
        ├── StartupError            the agent cannot start for another reason (exit code 3)
        │   └── SandboxError        a control of the sandbox cannot be applied
        ├── PolicyError             a sandbox policy cannot be meant (also a ValueError)
        ├── EgressError             the egress proxy does not do what it was asked for
        ├── DeployError             an image or a manifest cannot be made (exit code 2)
        ├── CrashLoopError          the worker keeps crashing (exit code 75)
        ├── ReloadError             the new workers did not come up; the old ones go on
        ├── SecretMissingError      the agent has no such secret (also a KeyError)
        ├── SecretMismatchError     the secrets do not fit the model that they are asked for as
        ├── StorageError            runtime/journal.db cannot be opened, read or written (exit code 3)
        │   ├── StorageLockedError  another host has it open
        │   └── StorageVersionError it was written by a newer release
        ├── StateError              the agent's state did not take or give what was asked of it
        │   ├── StateConflictError  someone else changed it meanwhile: do it again
        │   ├── StateQuotaError     the state would grow over `state.quota_bytes`
        │   ├── StateKeyError       the key is none (also a ValueError)
        │   ├── StateValueError     the value is none, or too large (also a ValueError)
        │   └── StateFileError      runtime/memory_store.json is not what it should be
        ├── LinkError               the link to the orchestrator does not do what it was asked for
        ├── OrchestratorError       the orchestrator cannot start or do what it was asked for
        ├── SnapshotError           a snapshot cannot be made, read or restored
        ├── InvalidTransitionError  the agent cannot go from one lifecycle state to another
        ├── RequestError            a request cannot be served; carries the answer (protocol.problem)
        │   ├── EnvelopeError       the body of POST /v1/tasks is not what it should be
        │   └── HeaderError         a header that we know has a value that we do not understand
        ├── CallbackUrlError        a text is no URL for a callback (also a ValueError)
        ├── JsonTextError           a text is not JSON; says why and where (protocol.json_text)
        ├── ProtocolError           the other process broke the frame protocol
        │   └── FrameTooLargeError  a frame announced more bytes than the receiver allows
        └── TaskError               a task failed in a way that its caller should understand
            └── CallError           a task that this agent sent to another capability failed

    BaseException
    └── TaskInterrupted             injected into sync code that ignores a cancellation

This module imports nothing, so that every layer may use it.
"""


class KagentError(Exception):
    """Base class of every error raised by this library."""


class DeclarationError(KagentError):
    """An author's function cannot be declared as a capability, loop or hook.

    Raised at import. The message names the function and the parameter and says what to write
    instead.
    """


class ConfigError(KagentError):
    """The configuration is wrong; the message names file, line, key and the nearest right key."""

    exit_code = 78  # EX_CONFIG, sysexits.h


class VaultError(ConfigError):
    """The vault cannot be used as it is; the message never contains a value of it."""


class WebhookSecretError(VaultError):
    """A secret that signs webhooks is malformed; the message says how, and holds no part of it."""


class WebhookSignatureError(KagentError):
    """A webhook is not to be trusted: answer 400, and do nothing with its body."""


class StartupError(KagentError):
    """The agent cannot start: a port that is taken, a folder that is not writable, and the like."""

    exit_code = 3


class SandboxError(StartupError):
    """A control of the sandbox cannot be applied, and the policy does not do without it.

    Attributes:
        control: its name in `kagent_sdk.sandbox.controls.Control`.
        way_out: how to get it, in a sentence.
    """

    def __init__(self, control: str, message: str, way_out: str) -> None:
        super().__init__(f"sandbox: {control}: {message}; {way_out}")
        self.control = control
        self.way_out = way_out


class PolicyError(KagentError, ValueError):
    """A sandbox policy cannot be meant as it stands; the message names the entry and the reason."""


class EgressError(KagentError):
    """The egress proxy does not do what it was asked for; the message is for the agent's author.

    Attributes:
        reason: a stable name, such as ``not_listed``.
        status: the HTTP status of the answer.
    """

    def __init__(self, reason: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = _EGRESS_STATUSES.get(reason, 403) if status is None else status


_EGRESS_STATUSES = {
    "bad_request": 400,
    "unauthorized": 407,
    "busy": 503,
    "unresolved": 502,
    "unreachable": 502,
    "tls_failed": 502,
    "bad_answer": 502,
    "no_secret": 502,
    "timeout": 504,
}
"""Of the refusals that are no 403."""


class DeployError(KagentError):
    """An image or a manifest cannot be made from what was given; a line for each reason."""

    exit_code = 2


class CrashLoopError(KagentError):
    """The worker crashed again and again without becoming stable.

    Attributes:
        traceback_text: the last lines that the worker wrote to stderr, possibly empty.
    """

    exit_code = 75  # EX_TEMPFAIL, sysexits.h

    def __init__(self, message: str, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class ReloadError(KagentError):
    """A reload failed, and the agent goes on as it was; the message may be shown to callers.

    Attributes:
        traceback_text: the last lines that the new worker wrote to stderr, possibly empty.
    """

    def __init__(self, message: str, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class SecretMissingError(KagentError, KeyError):
    """The author's code asked for a secret that the vault or the configuration does not give it.

    Attributes:
        key: the name that was asked for.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f'no secret {key!r}: add "{key}" to secrets.expose in config.yaml')
        self.key = key

    # KeyError shows its argument's repr, which would quote the whole sentence.
    __str__ = Exception.__str__


class SecretMismatchError(KagentError):
    """Secrets do not fit the author's model; the message names them and holds no value.

    Attributes:
        keys: the paths of those that do not fit, such as ``db.port``.
    """

    def __init__(self, message: str, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


class StorageError(KagentError):
    """The journal cannot be opened, read or written; the message holds no data and no path."""

    exit_code = 3


class StorageLockedError(StorageError):
    """Another process has the journal open.

    Attributes:
        name: of the file.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is in use: another host runs this agent; stop it first (kos-agent status "
            "shows its process id)"
        )
        self.name = name


class StorageVersionError(StorageError):
    """The journal was written by a newer release, whose schema this one does not know.

    Attributes:
        found: the schema's version in the file.
        known: the newest that this release knows.
    """

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"journal.db has schema version {found}, and this release knows up to {known}: "
            "install a newer kagent-sdk, or restore a snapshot of this version"
        )
        self.found = found
        self.known = known


class StateError(KagentError):
    """The state did not take or give what was asked of it."""


class StateConflictError(StateError):
    """A transaction read or wrote keys that someone else changed meanwhile.

    Inside a task the runtime runs the task again; a loop or hook does it again by itself.

    Attributes:
        keys: some of those keys.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        shown = ", ".join(repr(key) for key in keys[:5])
        super().__init__(f"the state was changed meanwhile, at {shown or 'a prefix that was read'}")
        self.keys = keys


class StateQuotaError(StateError):
    """The state would grow over its quota; nothing of the transaction was written.

    Attributes:
        used_bytes: what keys and values would take.
        quota_bytes: ``state.quota_bytes``.
    """

    def __init__(self, used_bytes: int, quota_bytes: int) -> None:
        super().__init__(
            f"the state would take {used_bytes} bytes, over state.quota_bytes ({quota_bytes}): "
            "delete keys, give them a ttl_s, or raise the quota in config.yaml"
        )
        self.used_bytes = used_bytes
        self.quota_bytes = quota_bytes


class StateKeyError(StateError, ValueError):
    """A key of the state is malformed; the message says what a key may be."""


class StateValueError(StateError, ValueError):
    """A value of the state is not JSON, too large, or does not fit the type that was asked for."""


class StateFileError(StateError):
    """A file that should hold the state does not; the message says what is wrong, and where."""


class LinkError(KagentError):
    """The link to the orchestrator does not do what it was asked for.

    Attributes:
        is_permanent: trying again changes nothing before somebody changes the configuration, the
            vault or the orchestrator; it is tried all the same, less often.
    """

    exit_code = 3

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


class OrchestratorError(KagentError):
    """The embedded orchestrator cannot start, or cannot do what it was asked for."""

    exit_code = 3


class SnapshotError(KagentError):
    """A snapshot cannot be made, read or restored; the agent is as it was.

    Attributes:
        problems: one line for each member that is damaged, possibly none.
    """

    exit_code = 3

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class InvalidTransitionError(KagentError):
    """The agent was asked to enter a lifecycle state that cannot follow its present one.

    Attributes:
        before: the present state.
        after: the state that was asked for.
    """

    def __init__(self, before: str, after: str) -> None:
        super().__init__(f"lifecycle cannot go from {before} to {after}")
        self.before = before
        self.after = after


class ProtocolError(KagentError):
    """The peer of a frame connection sent something that the protocol does not allow."""


class FrameTooLargeError(ProtocolError):
    """A frame announced more bytes than the receiver allows.

    Attributes:
        size_bytes: what the header announced.
        limit_bytes: what the receiver allows.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"frame of {size_bytes} bytes is over the limit of {limit_bytes}")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class TaskError(KagentError):
    """Raise this in a capability for a failure that the caller should understand.

    Its arguments are its attributes too.

    Args:
        code: a stable, machine-readable name, such as ``"quota_exceeded"``.
        message: one sentence for a person.
        retryable: whether the same request may succeed later.
        details: JSON-compatible data for the caller's program.
        status: the HTTP status that the fast path answers with (400 to 599).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        details: object = None,
        status: int = 500,
    ) -> None:
        super().__init__(f"{code}: {message}")
        if not 400 <= status <= 599:
            raise ValueError(f"status of a TaskError must be 400 to 599, not {status}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.details = details
        self.status = status


class CallError(TaskError):
    """A task that was sent with `ctx.call` or `ctx.stream` failed; carries the other task's error.

    ``code``, ``message``, ``retryable`` and ``details`` are the other task's, or say why it was never
    taken: ``unreachable``, ``too_many_calls`` and the other codes of the HTTP page.
    """


class TaskInterrupted(BaseException):
    """Injected into the thread of a sync capability that ignored its cancellation.

    It derives from BaseException, as KeyboardInterrupt does, so that ``except Exception`` in the
    author's code does not swallow it.
    """
