"""`celery -A worker worker -P threads`: what `orchestrator worker` starts."""

from orchestrator import bootstrap, process, settings
from orchestrator.pulse import Pulse
from tasks import landed, legs
from tasks import pulse as pulses

system = bootstrap.compose(settings.load())
app = system.app
pulse = Pulse(system)
legs.register(app, system)
landed.register(app, system)
pulses.register(app, pulse)
process.attach(system, pulse)
