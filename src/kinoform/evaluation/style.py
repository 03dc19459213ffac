"""How the page of an evaluation looks: light and dark, on paper-wide screens and on phones."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1f; --faint: #66666e; --paper: #fff; --card: #f4f4f6; --line: #d8d8de;
  --right: #17713a; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --faint: #9a9aa2; --paper: #161618; --card: #202023;
  --line: #3a3a40; --right: #6fcf8f; --wrong: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem; }
h1 { margin-top: 0; }
code { background: var(--card); padding: .1em .35em; border-radius: .25em; }
.faint, figcaption p + p { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; margin: .5rem 0 1rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; white-space: normal; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
.videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, calc(var(--sides) * 10rem)), 1fr));
  gap: .75rem; }
.card { background: var(--card); border-radius: .4rem; padding: .6rem; border-top: .3rem solid var(--right); }
.card > p { margin: 0 0 .4rem; font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(var(--sides), minmax(0, 1fr)); gap: .6rem; }
figure { margin: 0; }
img { display: block; width: 100%; max-width: 12rem; image-rendering: pixelated; border-radius: .2rem; }
figcaption { font-size: .85rem; }
figcaption p { margin: .3rem 0 0; }
.right { color: var(--right); }
.wrong { color: var(--wrong); }
p .wrong { font-weight: 600; }
.card.wrong { color: var(--ink); border-top-color: var(--wrong); }
"""
