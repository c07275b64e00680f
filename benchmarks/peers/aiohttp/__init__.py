"""The workload on bare aiohttp."""
