"""The workload on bedrock-agentcore."""
