"""How the page looks, on light and on dark screens."""

STYLE = """\
:root {
  color-scheme: light dark; --ink: #1c1c20; --paper: #fff; --faint: #6b6b75;
  --line: #dddde3; --warn: #b00020;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #ececf1; --paper: #16161a; --faint: #9a9aa6; --line: #33333c; --warn: #ff7a8a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); padding: 1.25rem 0; }
p { margin: .25rem 0; }
.place { color: var(--faint); font-weight: normal; }
.explains, .facts, .legend, figcaption, .placeless {
  color: var(--faint); font-size: .875rem; overflow-wrap: anywhere;
}
.warn { color: var(--warn); font-weight: 600; }
.summary { border-collapse: collapse; margin-bottom: .75rem; font-size: .9375rem; }
.summary th {
  text-align: left; font-weight: normal; color: var(--faint);
  padding: .1rem 1.5rem .1rem 0;
}
.summary td { font-variant-numeric: tabular-nums; }
.bar {
  display: inline-block; width: 9rem; height: .75rem; margin-right: .6rem;
  border: 1px solid var(--line); vertical-align: middle;
}
.words {
  margin: .75rem 0; font-size: 1.125rem; line-height: 1.9; white-space: pre-wrap;
  overflow-wrap: anywhere;
}
.words .token { padding: .15rem 0; border-radius: .2rem; }
.words .template { color: var(--faint); }
.words .token:hover { outline: 2px solid currentColor; }
.end { color: var(--faint); font-size: .8em; }
.run {
  border: 1px solid var(--line); border-radius: .3rem; padding: .1rem .4rem;
  font-size: .875rem; color: var(--faint);
}
figure { margin: .75rem 0 0; }
.picture {
  position: relative; display: inline-block; line-height: 0; margin: 0 .5rem .25rem 0;
  max-width: calc(50% - .75rem);
}
@media (max-width: 40rem) { .picture { max-width: 100%; } }
.picture img { max-width: 100%; height: auto; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.picture rect { fill: transparent; }
.picture rect:hover { stroke: #000; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.placeless .token {
  display: inline-block; width: .8rem; height: .8rem; border: 1px solid var(--line);
  vertical-align: middle;
}
"""
