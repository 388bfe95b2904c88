"""The one page that a browser gets: a terminal whose other end is the viewer.

Everything it loads comes from this server; the policy sent along holds the browser to that.
"""

from __future__ import annotations

import html
from string import Template

POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; "
    "style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; "
    "connect-src {socket}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/css/xterm.css">
<style>
@font-face {
  font-family: "Roboto Mono";
  src: url("/static/fonts/RobotoMono-VariableFont_wght.ttf") format("truetype");
  font-weight: 100 700;
}
@font-face {
  font-family: "Roboto Mono"; font-style: italic;
  src: url("/static/fonts/RobotoMono-Italic-VariableFont_wght.ttf") format("truetype");
  font-weight: 100 700;
}
body { margin: 0; background: #0f1419; color: #e6e1cf; font: 16px "Roboto Mono", monospace; }
#left { display: none; position: fixed; inset: 0; z-index: 10; background: #0f1419;
  align-items: center; justify-content: center; text-align: center; }
body.-closed #left { display: flex; }
button { font: inherit; padding: 8px 16px; cursor: pointer; }
</style>
<script src="/static/js/textual.js"></script>
</head>
<body>
<noscript>The screen needs JavaScript; <code>oumi-flow report</code> writes a page that does
without.</noscript>
<div id="left"><div><p>The screen was left. The run goes on by itself.</p>
<p><button type="button" id="again">open it again</button></p></div></div>
<div id="terminal" class="textual-terminal" data-session-websocket-url="$socket"
  data-font-size="$size"></div>
<script nonce="$nonce">
document.getElementById("again").addEventListener("click", () => location.reload());
</script>
</body>
</html>
""")


def page(title: str, socket: str, nonce: str, size: int) -> str:
    """`socket`: the address of the viewer's websocket. `size` of the letters, in pixels."""
    return _PAGE.substitute(
        title=html.escape(title), socket=html.escape(socket), nonce=nonce, size=size
    )
