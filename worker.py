"""`celery -A worker worker -P threads`: what `orchestrator worker` starts."""

from orchestrator import bootstrap, hung, process, settings
from orchestrator.pulse import Pulse
from tasks import dead_letters, landed, legs
from tasks import pulse as pulses

system = bootstrap.compose(settings.load())
app = system.app
pulse = Pulse(system)
legs.register(app, system)
landed.register(app, system)
pulses.register(app, pulse)
dead_letters.register(app, system)
process.attach(system, pulse)
hung.attach(system)
