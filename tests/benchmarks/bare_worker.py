"""`celery -A tests.benchmarks.bare_worker worker`."""

from orchestrator import settings
from tests.benchmarks import bare

app = bare.make(settings.load())
