"""The page of an album: pictures and answers to look through, without a script and without another host."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from vitlab.wording import counted

if TYPE_CHECKING:
    from vitlab.attention.album import Shown

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1a1a; --faint: #595959; --line: #ccc;
  --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #161616; --ink: #eee; --faint: #b0b0b0; --line: #444; --link: #8ab8ff }
}
body { margin: 0 auto; padding: 1rem; max-width: 110rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.3 }
a { color: var(--link) }
nav ol { columns: 22rem; column-gap: 3rem; margin: 0; padding-left: 2.5rem }
nav li { break-inside: avoid; margin-bottom: .4rem }
figure { margin: 2rem 0; padding-top: 1rem; border-top: 1px solid var(--line) }
figure > a { display: block; overflow-x: auto }
img { width: 100%; min-width: 50rem; height: auto; background: #fff; border-radius: .4rem }
figcaption, nav span { color: var(--faint) }
figcaption b { color: var(--ink) }
"""


def page(model: str, shown: Sequence["Shown"], skipped: dict[str, str]) -> str:
    """The album of a model as HTML; the pictures are the PNGs beside it.

    >>> "cannot be seen" in page("a model", [], {"a.jpg": "cannot be seen"})
    True
    """
    title = f"What {escape(model)} looks at"
    links = "\n".join(
        f'<li><a href="#{number}">{escape(each.name)}</a> <span>{unbroken(each.answer)}</span></li>'
        for number, each in enumerate(shown, 1)
    )
    figures = "\n".join(figure(number, each) for number, each in enumerate(shown, 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>{counted(len(shown), "picture")}. Each map has a scale of its own. A click shows maps in full size;
the numbers are in the .npz files.</p>
{left_out(skipped)}<nav aria-label="Pictures">
<ol>
{links}
</ol>
</nav>
<main>
{figures}
</main>
</body>
</html>
"""


def figure(number: int, each: "Shown") -> str:
    """One picture with its caption."""
    (width, height), name = each.size, escape(each.name)
    return f"""<figure id="{number}">
<a href="{quote(each.name)}.png"><img src="{quote(each.name)}.png" alt="{escape(each.alt)}" width="{width}"
height="{height}" style="max-width: {width}px" loading="lazy"></a>
<figcaption><b>{name}</b>: {unbroken(each.answer)} (<a href="{quote(each.name)}.npz">numbers</a>)</figcaption>
</figure>"""


def unbroken(answer: str) -> str:
    """An answer as HTML whose lines do not end before a per cent sign.

    >>> unbroken("cat (9.1 %)")
    'cat (9.1&nbsp;%)'
    """
    return escape(answer).replace(" %", "&nbsp;%")


def left_out(skipped: dict[str, str]) -> str:
    """What could not be shown, by name, or nothing."""
    if not skipped:
        return ""
    items = "\n".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in skipped.items())
    return f"<p>{counted(len(skipped), 'picture')} could not be read:</p>\n<ul>\n{items}\n</ul>\n"
