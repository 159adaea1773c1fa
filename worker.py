"""`celery -A worker worker -P threads`: what `orchestrator worker` starts."""

from orchestrator import bootstrap, hung, process, settings
from tasks import dead_letters, landed, legs

system = bootstrap.compose(settings.load())
app = system.app
legs.register(app, system)
landed.register(app, system)
dead_letters.register(app, system)
process.attach(system)
hung.attach(system)
