"""The look of a definition's picture: its style sheet, and the small drawings that say a kind or a state. Pure.

Every state has a mark of its own shape and a word beside it, so that colour tells nothing alone.
"""

from __future__ import annotations

# Every text has a contrast of at least 4.5 to what is behind it, in both schemes.
CSS = """
.flow { font: 12px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; max-width: 100%; height: auto;
  --ink: #1b1f24; --quiet: #525a64; --line: #8a94a0; --card: #ffffff; --paper: #f6f8fa; --frame: #dfe5ec66;
  --good: #16703a; --bad: #b3201f; --wait: #8a5600; --busy: #0a57b5; --past: #5f6873; --focus: #b35300; }
@media (prefers-color-scheme: dark) { .flow { --ink: #e8ecf1; --quiet: #aeb8c4; --line: #697582; --card: #1f262e;
  --paper: #14181d; --frame: #2c353f80; --good: #6fd493; --bad: #ff9c9c; --wait: #f5c26b; --busy: #82b9ff;
  --past: #a3adb8; --focus: #ffb066; } }
.flow .paper { fill: var(--paper); }
.flow .quiet { font-size: 12px; }
.flow text { fill: var(--ink); white-space: pre; }
.flow .name { font-size: 13px; font-weight: 600; }
.flow .code, .flow .label { font: 11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.flow .code, .flow .quiet, .flow .label { fill: var(--quiet); }
.flow .label { text-anchor: middle; }
.flow .box, .flow .frame { fill: var(--card); stroke: var(--line); }
.flow .frame { fill: var(--frame); }
.flow .kind-branches .frame, .flow .kind-switch .frame { stroke-dasharray: 4 3; }
.flow .stack, .flow .arrow, .flow .icon, .flow .side { fill: none; stroke: var(--line); }
.flow .arrow { stroke-width: 1.25; }
.flow .icon { stroke: var(--quiet); stroke-width: 1.4; stroke-linecap: round; stroke-linejoin: round; }
.flow .head { fill: var(--line); }
.flow .choice { fill: var(--card); stroke: var(--quiet); stroke-width: 1.4; }
.flow .good { --tone: var(--good); } .flow .bad { --tone: var(--bad); } .flow .wait { --tone: var(--wait); }
.flow .busy { --tone: var(--busy); } .flow .past { --tone: var(--past); }
.flow .toned .box, .flow .toned .frame, .flow .toned .side, .flow .toned .stack { stroke: var(--tone); }
.flow .toned .box { stroke-width: 1.75; }
.flow .state { font-size: 12px; font-weight: 400; fill: var(--quiet); }
.flow .toned .state { font-weight: 600; fill: var(--tone); }
.flow .disc { fill: var(--tone, none); stroke: var(--tone, var(--line)); }
.flow .mark { fill: none; stroke: var(--card); stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
.flow a { cursor: pointer; }
.flow a:hover .box, .flow a:hover .frame { stroke: var(--ink); }
.flow a:focus { outline: none; }
.flow a:focus-visible .box, .flow a:focus-visible .frame { stroke: var(--focus); stroke-width: 3.5; stroke-dasharray: none; }
@media (forced-colors: active) { .flow a:focus-visible .box { stroke: Highlight; } }
"""

TONES = {
    "STUCK": "bad", "UNKNOWN": "bad", "FAILED": "bad", "WAITING": "wait", "RETRYING": "wait", "COMPENSATING": "wait",
    "RUNNING": "busy", "READY": "busy", "COMPENSATED": "past", "SUCCEEDED": "good", "SKIPPED": "past",
}  # fmt: skip

# Strokes around their middle; a mark has 8 pixels each way, a kind's icon 7.
MARKS = {
    "STUCK": "M0-3.5v4m0 3v.1",
    "UNKNOWN": "M-1.9-2a2 2 0 1 1 2.9 1.8q-1 .5-1 1.4m0 2.4v.1",
    "FAILED": "M-2.7-2.7l5.4 5.4m0-5.4l-5.4 5.4",
    "WAITING": "M-1.8-2.8v5.6m3.6-5.6v5.6",
    "RETRYING": "M3.4-1.2a3.5 3.5 0 1 0 .1 2.2m0-4.2v2.2h-2.2",
    "COMPENSATING": "M-3.5-.8h4.2a2.1 2.1 0 0 1 0 4.2h-1.6m-2.6-4.2l2.2-2.2m-2.2 2.2l2.2 2.2",
    "RUNNING": "M-1.5-2.8l4 2.8-4 2.8z",
    "READY": "M-3 0v.1m3-.1v.1m3-.1v.1",
    "COMPENSATED": "M-3.5-.8h4.2a2.1 2.1 0 0 1 0 4.2h-1.6m-2.6-4.2l2.2-2.2m-2.2 2.2l2.2 2.2",
    "SUCCEEDED": "M-3.2.2l2.2 2.3 4.2-4.8",
    "SKIPPED": "M-3.2-2.6l2.6 2.6-2.6 2.6m3.4-5.2l2.6 2.6-2.6 2.6",
}
ICONS = {
    "pause": "M0-.6a2.7 2.7 0 1 0-.1 0M-5 6a5 5 0 0 1 10 0",
    "wait": "M6 0a6 6 0 1 1-12 0 6 6 0 0 1 12 0M0-3.2v3.2l2.4 1.6",
    "workflow": "M-6-6h7v7h-7zM-2 1v5h8v-8h-5",
    "branches": "M0-6v3m-5 9v-4a5 5 0 0 1 10 0v4",
    "switch": "M0-6.5l6.5 6.5-6.5 6.5-6.5-6.5z",
    "forEach": "M-6-2l6-4 6 4-6 4zM-6 2l6 4 6-4",
    "repeat": "M5.2-2.5a5.6 5.6 0 1 0 .3 4.2m.2-7.7v3.6h-3.6",
    "end": "M-4.5-4.5h9v9h-9z",
    "fail": "M6 0a6 6 0 1 1-12 0 6 6 0 0 1 12 0M-2.3-2.3l4.6 4.6m0-4.6l-4.6 4.6",
}
