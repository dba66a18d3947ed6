"""The shell of every page, as HTML; all that it shows comes from its scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol


class Entry(Protocol):
    """What the navigation shows of a part."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...


HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/moka.css">
<link rel="stylesheet" href="/static/models.css">
<script src="/static/theme.js"></script>
"""
SHELL = """\
<script type="module" src="/static/app.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<a class="brand" href="/" aria-label="Moka, start page">
<img src="/static/icon.svg" alt="" width="24" height="24"><span>Moka</span>
</a>
<nav aria-label="Pages">
{links}
</nav>
<button id="theme" class="icon plain" type="button" aria-label="Switch between light and dark">
</button>
</header>
<main id="main" tabindex="-1"></main>
<div id="toasts" role="status" aria-live="polite"></div>
<noscript><p class="empty">This page needs JavaScript.</p></noscript>
</body>
</html>
"""
LOGIN = """\
</head>
<body>
<main class="login">
<h1>Moka</h1>
<p>This server asks for the token that it printed when it started.</p>
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
{wrong}<button class="primary">Open</button>
</form>
</main>
</body>
</html>
"""


def shell(title: str, parts: Sequence[Entry]) -> str:
    """The page that every part is shown in."""
    links = "\n".join(f'<a href="/{escape(p.path)}">{escape(p.name)}</a>' for p in parts)
    return HEAD.format(title=escape(title)) + SHELL.format(links=links)


def login_page(*, wrong: bool = False) -> str:
    """A form that asks for the token."""
    said = '<p class="error" role="alert">That is not the token.</p>\n' if wrong else ""
    return HEAD.format(title="Moka") + LOGIN.format(wrong=said)
