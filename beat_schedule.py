"""`celery -A beat_schedule beat`: the same as `orchestrator beat`."""

from orchestrator import settings
from orchestrator.bootstrap import beat_app

app = beat_app(settings.load())
