"""How a report looks: a style sheet for light, dark and paper, and patterns for its drawings."""

from __future__ import annotations

from oumi_flow.ui.report.markup import Markup, el

_LIGHT = """
  --page: #fff; --ink: #1c2024; --muted: #5f676f; --rule: #dfe3e7; --soft: #f6f7f8; --grid: #e9ecef;
  --link: #1f5fbf;
  --good: #1f7a4d; --good-fill: #d5ecdf; --good-edge: #63a884;
  --bad: #b3261e; --bad-fill: #fbe3e1; --bad-edge: #cf6a64;
  --warn: #8a5a00; --warn-fill: #fbeed3; --warn-edge: #cf9f45;
  --busy: #1f5fbf; --busy-fill: #dce8fa; --busy-edge: #6d9be0;
  --quiet: #5f676f; --quiet-fill: #eef0f2; --quiet-edge: #b3bac1;
  --c0: #1f5fbf; --c1: #b3541e; --c2: #1f7a4d; --c3: #8b4a9c; --c4: #a1761a; --c5: #3f7f8c;
  --rest: #aeb6bd;"""
_DARK = """
  --page: #15181b; --ink: #e4e7ea; --muted: #9aa3ab; --rule: #2e3338; --soft: #1c2023;
  --grid: #262b2f; --link: #82b1f2;
  --good: #6cc596; --good-fill: #1d3a2b; --good-edge: #3f7f5d;
  --bad: #f2857d; --bad-fill: #45211f; --bad-edge: #a3524c;
  --warn: #e0b25c; --warn-fill: #3d3017; --warn-edge: #917030;
  --busy: #82b1f2; --busy-fill: #1d3150; --busy-edge: #4673b4;
  --quiet: #9aa3ab; --quiet-fill: #262b2f; --quiet-edge: #555d65;
  --c0: #82b1f2; --c1: #eb9a6a; --c2: #6cc596; --c3: #cf9ade; --c4: #d9b45e; --c5: #7cc0cd;
  --rest: #4f575e;"""

CSS = f"""
:root {{{_LIGHT}
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  color-scheme: light dark;
}}
@media (prefers-color-scheme: dark) {{ :root {{{_DARK} }} }}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }}
body {{
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}}
main {{ max-width: 1080px; margin: 0 auto; padding: 48px 40px 64px; }}
h1 {{ font-size: 28px; line-height: 1.25; font-weight: 600; margin: 0 0 8px;
  letter-spacing: -0.01em; overflow-wrap: anywhere; }}
h1 .state {{ font-size: 15px; font-weight: 500; letter-spacing: 0; margin-left: 8px;
  vertical-align: 3px; padding: 2px 10px; border: 1px solid currentColor; border-radius: 12px; }}
h2 {{ font-size: 19px; font-weight: 600; margin: 0 0 18px; letter-spacing: -0.005em; }}
h3 {{ font-size: 15px; font-weight: 600; margin: 28px 0 10px; }}
h2 + h3, h2 + article h3 {{ margin-top: 0; }}
h4 {{ font-size: 13px; font-weight: 600; color: var(--muted); margin: 20px 0 6px; }}
p {{ margin: 0 0 10px; }}
a {{ color: var(--link); text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
:focus-visible {{ outline: 2px solid var(--link); outline-offset: 2px; }}
section {{ margin-top: 56px; scroll-margin-top: 16px; }}
code, pre {{ font-family: var(--mono); font-size: 12.5px; }}
code {{ overflow-wrap: anywhere; }}
pre {{ margin: 0; padding: 12px 14px; background: var(--soft); border: 1px solid var(--rule);
  border-radius: 6px; overflow-x: auto; line-height: 1.5; max-height: 480px; }}
.muted, figcaption {{ color: var(--muted); font-size: 13px; }}
figcaption > b, figcaption > span {{ display: block; }}
figcaption b {{ color: var(--ink); font-weight: 600; }}
.note {{ border-left: 3px solid var(--warn-edge); padding: 2px 0 2px 12px; margin: 12px 0; }}
.state {{ white-space: nowrap; }}
h3 .state {{ white-space: normal; }}
.state.good {{ color: var(--good); }} .state.bad, .big.bad {{ color: var(--bad); }}
.state.warn, .big.warn {{ color: var(--warn); }} .state.busy {{ color: var(--busy); }}
.state.quiet {{ color: var(--quiet); }}

.tiles {{ display: flex; flex-wrap: wrap; gap: 24px 22px; margin: 32px 0 0; }}
.tiles > div {{ min-width: 112px; max-width: 170px; }}
.tiles dt {{ font-size: 13px; color: var(--muted); }}
.tiles dd {{ margin: 0; }}
.tiles .big {{ font-size: 24px; line-height: 1.3; font-weight: 600; letter-spacing: -0.01em;
  white-space: nowrap; font-variant-numeric: tabular-nums; }}
nav {{ margin-top: 36px; border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); }}
nav ul {{ display: flex; flex-wrap: wrap; gap: 4px 24px; list-style: none; margin: 0;
  padding: 10px 0; font-size: 14px; }}

figure {{ margin: 0; }}
.wide {{ overflow-x: auto; }}
svg {{ display: block; }}
.defs {{ position: absolute; }}
svg text {{ font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  fill: var(--ink); }}
svg text.tick {{ font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums; }}
svg text.over {{ paint-order: stroke; stroke: var(--page); stroke-width: 3px; }}
svg text.in {{ font-size: 11px; }}
.bad + rect + text.in, .warn + rect + text.in {{ paint-order: stroke; stroke-width: 3px;
  stroke: var(--page); }}
svg .grid {{ stroke: var(--grid); stroke-width: 1; }}
svg a:hover text {{ text-decoration: underline; }}
.gantt {{ width: 100%; min-width: 680px; height: auto; }}
.bar {{ stroke-width: 1; }}
.bar.good, .node.good {{ fill: var(--good-fill); stroke: var(--good-edge); }}
.bar.bad, .node.bad {{ fill: var(--bad-fill); stroke: var(--bad-edge); }}
.bar.warn, .node.warn {{ fill: var(--warn-fill); stroke: var(--warn-edge); }}
.bar.busy, .node.busy {{ fill: var(--busy-fill); stroke: var(--busy-edge); }}
.bar.quiet {{ fill: var(--quiet-fill); stroke: var(--quiet-edge); }}
.bar.open {{ stroke-dasharray: 4 3; }}
.wait {{ fill: var(--quiet-edge); opacity: 0.55; }}
.legend svg {{ display: inline-block; vertical-align: -1px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; padding: 0;
  margin: 12px 0; font-size: 13px; color: var(--muted); }}
.dag {{ max-width: none; }}
.dag .node {{ fill: var(--page); stroke: var(--rule); }}
.dag .node.bad {{ fill: var(--bad-fill); stroke: var(--bad-edge); }}
.dag .node.warn {{ stroke: var(--warn-edge); stroke-dasharray: 4 3; }}
.dag .node.busy {{ stroke: var(--busy-edge); }}
.dag .side.good {{ fill: var(--good); }} .dag .side.bad {{ fill: var(--bad); }}
.dag .side.warn {{ fill: var(--warn-edge); }} .dag .side.busy {{ fill: var(--busy); }}
.dag .side.quiet {{ fill: var(--quiet-edge); }}
.dag .name {{ font-size: 12.5px; font-weight: 500; }}
.dag .below {{ font-size: 11px; fill: var(--muted); }}
.dag .below.bad {{ fill: var(--bad); }} .dag .below.warn {{ fill: var(--warn); }}
.dag .edge {{ fill: none; stroke: var(--quiet-edge); stroke-width: 1.2; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr));
  gap: 28px 32px; margin-top: 16px; align-items: end; }}
.chart {{ width: 100%; height: auto; margin-top: 6px; }}
.line {{ fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }}
.line.rest {{ stroke: var(--rest); stroke-width: 0.9; }}
.line.c0 {{ stroke: var(--c0); }}
.line.c1 {{ stroke: var(--c1); stroke-dasharray: 6 3; }}
.line.c2 {{ stroke: var(--c2); stroke-dasharray: 2 3; }}
.line.c3 {{ stroke: var(--c3); stroke-dasharray: 9 3 2 3; }}
.line.c4 {{ stroke: var(--c4); stroke-dasharray: 12 4; }}
.line.c5 {{ stroke: var(--c5); stroke-dasharray: 4 2 1 2 1 2; }}

section > div + div {{ margin-top: 28px; }}
table {{ border-collapse: collapse; font-size: 13.5px; }}
caption {{ text-align: left; white-space: nowrap; color: var(--muted); font-size: 13px;
  padding-bottom: 8px; }}
th, td {{ text-align: left; vertical-align: baseline; padding: 5px 22px 5px 0; font-weight: 400;
  white-space: nowrap; border-bottom: 1px solid var(--grid); }}
thead th {{ color: var(--muted); font-size: 12.5px; border-bottom-color: var(--rule); }}
td.num, th.num {{ text-align: right; font-variant-numeric: tabular-nums; padding-right: 26px; }}
td.best {{ position: relative; }}
.star {{ color: var(--good); position: absolute; margin-left: 6px; font-size: 11px; top: 8px; }}
td b {{ font-weight: 600; }}
td.key {{ color: var(--muted); font-variant-numeric: tabular-nums; }}
.terms {{ display: grid; grid-template-columns: max-content 1fr; gap: 5px 28px; margin: 0;
  font-size: 14px; }}
.terms dt {{ color: var(--muted); }}
.terms dd {{ margin: 0; min-width: 0; overflow-wrap: anywhere; }}

.failure {{ margin-bottom: 32px; }}
.failure h3 {{ margin: 0 0 6px; }}
.failure figure {{ margin-top: 12px; }}
.failure figcaption {{ margin-bottom: 6px; }}
summary {{ cursor: pointer; }}
.wide + p, .wide + .more, figure + p {{ margin-top: 10px; }}
.more {{ margin: 12px 0; }}
.more > summary {{ color: var(--link); font-size: 14px; }}
.more > summary + * {{ margin-top: 10px; }}
.job, .family {{ border-bottom: 1px solid var(--grid); }}
.job > summary, .family > summary {{ padding: 8px 0; display: flex; flex-wrap: wrap;
  gap: 2px 16px; align-items: baseline; list-style: none; }}
.job > summary::-webkit-details-marker, .family > summary::-webkit-details-marker {{
  display: none; }}
.job > summary::before, .family > summary::before {{ content: "›"; color: var(--muted);
  width: 10px; margin-right: -6px; }}
.job[open] > summary::before, .family[open] > summary::before {{ transform: rotate(90deg); }}
.job > summary b, .family > summary b {{ font-weight: 500; overflow-wrap: anywhere; }}
.job > summary .state {{ min-width: 96px; font-size: 13.5px; }}
.body {{ padding: 8px 0 28px 20px; scroll-margin-top: 56px; }}
.body ol {{ margin: 0; padding-left: 22px; font-size: 14px; }}
.body .terms + .terms, .body .wide + .terms, .body ol + .terms {{ margin-top: 20px; }}
.members {{ padding-left: 20px; }}
.body table {{ font-size: 13px; }}
footer {{ margin-top: 64px; padding-top: 16px; border-top: 1px solid var(--rule); }}

@media (max-width: 640px) {{
  main {{ padding: 28px 18px 48px; }}
  h1 {{ font-size: 23px; }}
  .tiles .big {{ font-size: 20px; }}
  section {{ margin-top: 44px; }}
  .terms {{ grid-template-columns: 1fr; gap: 0; }}
  .terms dd {{ margin-bottom: 8px; }}
  .body, .members {{ padding-left: 8px; }}
}}
@media print {{
  :root {{{_LIGHT} color-scheme: light; }}
  body {{ font-size: 11pt; }}
  main {{ max-width: none; padding: 0; }}
  nav, .more > summary {{ display: none; }}
  a {{ color: inherit; }}
  section {{ margin-top: 28pt; }}
  h2, h3, h4, figcaption, caption {{ break-after: avoid; }}
  figure, .failure, tr, .job > summary {{ break-inside: avoid; }}
  .wide {{ overflow: visible; }}
  .gantt {{ min-width: 0; }}
  .dag {{ max-width: 100%; height: auto; }}
  pre {{ white-space: pre-wrap; overflow-wrap: anywhere; max-height: none; }}
  th, td {{ white-space: normal; padding-right: 10px; }}
  .bar, .node, .side, .wait, .state {{ print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }}
  .printed .job::details-content {{ content-visibility: visible; block-size: auto; }}
}}
"""


def _pattern(name: str, kind: str, angle: int) -> Markup:
    stripe = el("rect", width=1.4, height=6, style=f"fill:var(--{kind}-edge)")
    return el(
        "pattern",
        stripe,
        id=name,
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
        patternTransform=f"rotate({angle})",
    )


PATTERNS = el(
    "svg",
    el("defs", _pattern("hatch-bad", "bad", 45), _pattern("hatch-warn", "warn", -45)),
    width=0,
    height=0,
    class_="defs",
    aria_hidden="true",
)
