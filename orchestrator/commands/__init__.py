"""The commands of `orchestrator`, a file for each kind. Heavy modules are imported where they are used: `--help` is quick."""
