"""A durable workflow orchestrator: Celery carries the messages, Postgres holds the truth."""
