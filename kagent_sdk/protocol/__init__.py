"""What host, worker and wire agree on: frames, messages, tasks, manifest. Pure: no I/O, no asyncio."""
