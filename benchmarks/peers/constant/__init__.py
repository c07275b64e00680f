"""No contender: the least that can answer, to find the limit of the load generator."""
