"""The frame of a page: its head, its style, and a policy under which it loads and runs nothing."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from smnas_optuna.page.html import Html, element, joined

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: no script, no frame, no form and no request; images are those in the page."""
STYLE = """
:root{color-scheme:light dark;--ground:#fff;--card:#f5f7f9;--ink:#1c2126;--soft:#58626d;--line:#d9dfe5;--bar:#3274b5;
--mark:#e3ebf4;--warn:#8a5200;--warned:#fff6e8}
@media(prefers-color-scheme:dark){:root{--ground:#14171a;--card:#1d2226;--ink:#e7eaed;--soft:#a3adb8;--line:#343b42;
--bar:#5f9fe0;--mark:#2a3642;--warn:#f0b968;--warned:#2b2418}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:1240px;margin:auto;padding:24px 16px 64px}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 4px}h2{font-size:1.3rem;margin:48px 0 8px}
h3{font-size:1.02rem;margin:0 0 4px}p{margin:6px 0;max-width:76ch}ul{margin:8px 0;padding-left:20px;max-width:90ch}
li{margin:4px 0}.soft,caption,dt,figcaption,.note{color:var(--soft)}.note{font-size:.9rem}
nav{margin:12px 0}nav a{margin-right:16px}a{color:var(--bar)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:16px 0}
.tiles>div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px}
dt{font-size:.85rem}dd{margin:0;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,350px),1fr));gap:14px;margin:14px 0;
align-items:start}
.card,details{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
details{margin:10px 0}summary{cursor:pointer;font-weight:600}details[open]>summary{margin-bottom:6px}
.warned{background:var(--warned);border-left:3px solid var(--warn)}
.scroll{overflow:auto;max-height:640px;border:1px solid var(--line);border-radius:8px;margin:12px 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
caption{text-align:left;font-size:.9rem;padding:0 0 6px}.scroll caption{padding:8px 12px}
th{font-weight:500;text-align:left}td{text-align:right}td,thead th{overflow-wrap:normal}
.numbers th,.numbers td{padding:5px 12px;border-top:1px solid var(--line);vertical-align:top}
.numbers thead th{position:sticky;top:0;background:var(--card);font-size:.9rem;text-align:right;white-space:nowrap}
.numbers thead th:first-child{text-align:left}.numbers tbody th{min-width:120px}
.numbers td small{display:block;color:var(--soft);white-space:nowrap}
.bars th,.bars td{padding:2px 0;font-size:.9rem;white-space:nowrap;width:1%}
.bars td:nth-child(2){padding-left:14px}.bars td:nth-child(3){width:96%;text-align:left;padding-left:10px}
.bars i{font-style:normal;background:var(--mark);border-radius:4px;padding:0 5px;margin-left:6px;font-size:.8rem}
.bar{display:block;height:.8em;min-width:1px;border-radius:2px;background:var(--bar)}
.numbers .bar{height:4px;margin-top:4px}
.cards>.scroll{margin:0}
.unseen{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,280px),1fr));gap:16px;margin:14px 0}
.small.pictures{grid-template-columns:repeat(auto-fill,minmax(min(45%,165px),1fr));gap:12px}
figure{margin:0;min-width:0}figure svg{display:block;width:100%;height:auto;max-height:420px;border-radius:6px;
background:var(--mark);border:1px solid var(--line)}figcaption{font-size:.85rem;margin-top:4px}
.key{flex:none;width:.75em;height:.75em;border-radius:2px;border:1px solid #0006}
.names{margin:2px 0;color:var(--ink)}.names>span{display:inline-flex;align-items:baseline;gap:5px;
margin-right:10px;max-width:100%}
@media(max-width:560px){.numbers th,.numbers td{padding:5px 7px;font-size:.88rem}.numbers thead th{white-space:normal}
.numbers td small{white-space:normal}.numbers tbody th{min-width:110px}}
@media(max-width:560px){.bars th{white-space:normal;min-width:6.5em}.bars td:nth-child(3){min-width:60px}}
@media print{.scroll{max-height:none}}
"""


def page(title: str, *content: str, style: str = "", script: str = "") -> Html:
    """Return a whole page, in English.

    Args:
        title: That of its tab.
        content: What it shows.
        style: Rules beside those of every page; nothing from elsewhere.
        script: The only script that a browser runs on it, by its hash; nothing from elsewhere.
    """
    assert "</" not in script, "this would end the script"
    head = (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy(script)),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Html(STYLE + style)),
    )
    scripts = (element("script", Html(script)),) if script else ()
    body = element("body", element("main", *content), *scripts)
    whole = element("html", element("head", *head), body, lang="en")
    return joined((Html("<!DOCTYPE html>\n"), whole, Html("\n")))


def policy(script: str) -> str:
    """Return the policy of a page on which nothing but ``script`` runs, and nothing at all if it is empty."""
    if not script:
        return POLICY
    return f"{POLICY}; script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
