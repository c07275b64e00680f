"""The same workload on other servers, each with the requirements of its own environment."""
