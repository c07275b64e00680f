"""What the events of the logs mean, in a sentence for an operator.

An event that is not here has an empty cell on the page; one that is no event any more fails a test.
"""

from __future__ import annotations

from collections.abc import Mapping

_LIFE = {
    "another_host_runs": "Another host runs this agent in the same folder.",
    "answers_cut_off": "The shutdown left no time for the last answers.",
    "connections_limited": "Fewer connections than `http.max_connections`: raise `ulimit -n`.",
    "control_plane_exposed": "Whoever reaches the address may call the agent.",
    "crash_loop": "The worker crashed too often in a row; the agent ends with 75.",
    "exit_file_ignored": "A note on how an earlier host ended cannot be read.",
    "exit_not_written": "How this host ends cannot be noted; `error` says why.",
    "exit_written_again": "It can be noted again.",
    "exits_not_recorded": "How this host ends will not be known.",
    "host_failed": "The agent ends for this error.",
    "host_started": "The control plane listens at `url`.",
    "host_stopped": "The last record of a host.",
    "memory_near_limit": "No new task is taken until there is memory again.",
    "memory_recovered": "Tasks are taken again.",
    "previous_exit": "How the host before this one ended; a warning if that was not clean.",
    "request_failed": "A request met a bug of ours and was answered with 500.",
    "service_manager_not_told": "The service manager does not take what it is told.",
    "service_manager_unknown": "`NOTIFY_SOCKET` has an address that cannot be used.",
    "shutdown_hurried": "A second signal: running tasks are cancelled now.",
    "shutdown_started": "No new task is taken; `open_tasks` are seen through.",
    "tasks_still_open": "So many tasks still ran when their time was up; they are cancelled.",
}

_WORKERS = {
    "notification_refused": "Somebody other than the program wrote to its notify socket.",
    "secrets_not_replaced": "A program keeps the secrets that it had before.",
    "worker_broke_protocol": "A worker sent what it may not send; it is replaced.",
    "worker_crashed": "A worker ended that should not have; `cause` and `how` say how.",
    "worker_errno": "The program reported an error (`ERRNO=`).",
    "worker_killed": "The host killed a worker, for `reason`.",
    "worker_not_confined": "A control of the sandbox could not be applied.",
    "worker_not_started": "A worker could not be started; it is tried again.",
    "worker_ready": "A worker takes tasks.",
    "worker_recovered": "A worker that stood still goes on.",
    "worker_reloading": "The program said `RELOADING=1`.",
    "worker_stack": "Where a worker stands still: the stacks of its threads.",
    "worker_stalled": "A worker was silent for `health.stall_warn_s`.",
    "worker_started": "A worker process was started.",
    "worker_stopped": "A worker ended as it was told to.",
    "worker_stopping": "The program said `STOPPING=1`.",
    "worker_stuck": "A worker was silent for `health.stall_fail_s`; it is replaced.",
}

_RELOADS = {
    "generation_retired": "The workers of before a reload have ended.",
    "reload_broke": "A reload met a bug of ours; the agent goes on as it was.",
    "reload_completed": "The new workers took over.",
    "reload_failed": "The new workers did not come up; the agent goes on as it was.",
    "reload_started": "New workers are started beside the present ones.",
    "retiring_tasks_cut_short": "Tasks of the workers before ran out of time.",
}

_SANDBOX = {
    "egress_broke": "The egress proxy met a bug of ours.",
    "egress_closed": "A connection to a destination that is allowed has ended.",
    "egress_failed": "A destination that is allowed was not reached.",
    "egress_listening": "`kos-agent sandbox egress` serves at `address`.",
    "egress_refused": "A destination was refused; `detail` says what to write into config.yaml.",
    "egress_stopped": "`kos-agent sandbox egress` has ended.",
    "sandbox_audit_broke": "The audit of the sandbox met a bug of ours.",
    "sandbox_audited": "What of the sandbox does not hold, by verdict.",
    "sandbox_control_open": "A critical control does not hold; `detail` says what to do.",
}

_DATA = {
    "journal_failed": "Tasks cannot be written to the disk now; new ones get 503.",
    "journal_quarantined": "The journal was damaged and is put aside; its tasks are lost.",
    "journal_recovered": "Tasks can be written again.",
    "snapshot_failed": "A snapshot was not made.",
    "snapshot_made": "A snapshot was made.",
    "state_begins_empty": "No file of the state could be used.",
    "state_export_failed": "`runtime/memory_store.json` cannot be written; the state itself is safe.",
    "state_export_recovered": "It can be written again.",
    "state_file_put_aside": "A file of the state was renamed, not used and not written over.",
    "state_imported": "The state was read from a file, as the database had none.",
    "state_not_exported": "The shutdown left no time for `runtime/memory_store.json`.",
    "tasks_recovered": "Tasks of before the restart are known again.",
    "vault_not_reloaded": "The vault as it is now cannot be used; the values before stay.",
    "vault_not_watched": "Changes of the vault are not seen until a thread can be had; it is tried again.",
    "vault_recovered": "The vault is again what it was.",
    "vault_reloaded": "The vault's new values are in force.",
    "vault_watch_failed": "Looking at the vault met a bug of ours.",
}

_CALLBACKS = {
    "webhook_broken": "A delivery met a bug of ours; it is tried again.",
    "webhook_delivered": "A receiver took a message.",
    "webhook_dropped": "A message was given up.",
    "webhook_failed": "An attempt failed; the next one comes in `again_in_s`.",
    "webhooks_held_up": "Nothing can be delivered, for want of the secret that signs.",
}

_LOGS = {
    "log_events_dropped": "The host had more to say than could be written: so many records.",
    "log_lines_lost": "So many records could not be written to the file, for `reason`.",
    "log_pump_failed": "Writing the log met a bug of ours; it goes on.",
    "tee_failed": "Nothing more goes to stdout; the file has everything.",
    "tee_lines_lost": "Stdout was not read in time: so many records are in the file alone.",
}

_LINK = {
    "link_broke": "The link met a bug of ours; it is begun anew.",
    "link_call_not_canceled": "A call was given up, and the orchestrator did not hear of it.",
    "link_cut_off": "The shutdown left no time for the link's last reports.",
    "link_down": "The orchestrator, or the NATS server, cannot be reached; it is tried again and again.",
    "link_ended": "The link ended by itself; it is begun anew.",
    "link_goodbye_failed": "The NATS server was not told that the agent stops.",
    "link_goodbye_not_heard": "The orchestrator was not told that the agent stops.",
    "link_heartbeat_failed": "A sign of life did not reach the NATS server.",
    "link_job_failed": "A part of the link met a bug of ours; it is begun anew.",
    "link_keep_failed": "A task's delivery could not be kept alive; it is tried again.",
    "link_lease_lost": "A task was given to another replica.",
    "link_leases_lost": "So many tasks were given to other agents.",
    "link_look_failed": "A task's record could not be read; it is tried again.",
    "link_no_tasks_fetched": "Asking for tasks fails.",
    "link_offer_refused": "The agent did not take a task that it was offered.",
    "link_outbox_not_readable": "Reports cannot be read from the disk; they wait.",
    "link_pull_failed": "Asking for tasks fails; a warning when it has failed thrice.",
    "link_record_malformed": "A task's record in NATS cannot be read.",
    "link_registered": "The orchestrator knows the agent.",
    "link_report_failed": "Reports did not reach the NATS server; they are sent again.",
    "link_report_malformed": "A report cannot be sent as it is; it is given up.",
    "link_report_refused": "A report was not taken: the task is another's by now.",
    "link_reports_not_taken": "Reports are not taken; they wait and are sent again.",
    "link_stream_failed": "A capability's queue in NATS cannot be opened; it is tried again.",
    "link_sweep_failed": "Messages of ended tasks could not be removed; it is tried again.",
    "link_task_buried": "A task that nobody can run was moved to the dead letters.",
    "link_task_ended": "A task was ended without being run; `code` says why.",
    "link_task_malformed": "A message in the queue is no task.",
    "link_up": "The orchestrator can be reached again.",
    "reports_not_forgotten": "Reports that are settled stay on the disk, and are sent once more.",
}

_ORCHESTRATOR = {
    "agent_lost": "An agent fell silent; `tasks` are judged by what may happen to them.",
    "agent_registered": "An agent is known, and gets tasks.",
    "agent_said_goodbye": "An agent takes no more tasks, or is gone.",
    "job_failed": "A part of the orchestrator met a bug of ours.",
    "lease_lost": "An attempt of a task counts no more; `then` says what becomes of the task.",
    "orchestrator_started": "It listens at `url`.",
    "orchestrator_stopped": "The last record of an orchestrator.",
    "part_failed": "A part has failed; the orchestrator stops.",
    "part_not_stopped": "A part failed while it was being stopped.",
    "storage_damaged": "The database was damaged and is put aside.",
    "storage_failed": "Tasks cannot be written to the disk now.",
    "storage_recovered": "Tasks can be written again.",
}

_FLEET = {
    "fleet_not_recorded": "What runs could not be noted; a restart may not find it.",
    "fleet_started": "The agents of mesh.yaml are being started.",
    "fleet_stopped": "All agents have ended.",
    "release_differs": "What runs is another release than the folder would make now.",
    "release_not_made": "The folder makes no release; the one of before runs on.",
    "replica_adopted": "A replica that ran on while no orchestrator was there is taken over.",
    "replica_ended": "What ran of an agent that mesh.yaml has no more is ended.",
    "replica_failed": "A replica ended again and again; it is started once more in `retry_in_s`.",
    "replica_not_ready": "A replica takes no tasks now.",
    "replica_ready": "A replica takes tasks.",
    "replica_starting": "A replica is being started.",
    "replica_stopped": "A replica has ended.",
    "replica_stopping": "A replica is being ended.",
    "replica_waiting": "A replica ended by itself; it is started again in `retry_in_s`.",
    "restart_done": "Every replica was started again.",
    "restart_failed": "Not every replica was started again.",
    "scale_done": "As many replicas run as were asked for.",
    "scale_failed": "The number of replicas was not reached.",
    "snapshot_restored": "A replica begins with the state of a snapshot.",
    "snapshot_unusable": "Snapshots that cannot be used, and why; an older one is taken if there is one.",
    "start_failed": "An agent of mesh.yaml could not be started; an update tries it again.",
    "update_done": "Every replica runs the new release.",
    "update_failed": "An update was given up; `reason` says what runs now.",
    "update_started": "Replicas are moved to a new release, one after the other.",
    "vault_copied": "A replica was given the new vault.",
    "vault_not_copied": "A replica keeps the vault that it had.",
}

MEANINGS: Mapping[str, str] = {
    **_LIFE,
    **_WORKERS,
    **_RELOADS,
    **_SANDBOX,
    **_DATA,
    **_CALLBACKS,
    **_LOGS,
    **_LINK,
    **_ORCHESTRATOR,
    **_FLEET,
}
"""By event; of one that two parts write, for both."""
