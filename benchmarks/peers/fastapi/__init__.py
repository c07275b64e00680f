"""The workload on FastAPI and uvicorn."""
