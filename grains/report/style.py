"""How the page looks: on light and dark screens, on a phone, on paper."""

from grains.pictures.style import STYLE as CREDITS_STYLE

STYLE = (
    CREDITS_STYLE
    + """\
:root {
  --soft: #f4f4f7; --card: #fbfbfd; --accent: #0b6bcb; --good: #c24e00; --bad: #1f63b0;
  --warm-0: #d1480c; --warm-1: #b8860b; --warm-2: #c2307a; --warm-3: #8f4a1d;
  --cool-0: #0b6fb8; --cool-1: #00876a; --cool-2: #6b4fc8; --cool-3: #2a9fc4; --cool-4: #4c7a1e;
  --grey-0: #7c7c86; --grey-1: #55555f; --grey-2: #a0a0aa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --soft: #202027; --card: #1b1b21; --accent: #6db3ff; --good: #ff9a4d; --bad: #78b2f5;
    --warm-0: #ff8a4c; --warm-1: #e6bd45; --warm-2: #f47fb4; --warm-3: #d39a6a;
    --cool-0: #62b1f5; --cool-1: #3fcba5; --cool-2: #a996f7; --cool-3: #7fd8f2; --cool-4: #a3d165;
    --grey-0: #8f8f9a; --grey-1: #b6b6c0; --grey-2: #6c6c77;
  }
}
html { scroll-padding-top: 4rem; -webkit-text-size-adjust: 100%; }
body { max-width: 84rem; padding: 0 1.5rem 4rem; }
header { padding: 2rem 0 .75rem; }
h1 { font-size: 1.75rem; letter-spacing: -.01em; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; letter-spacing: -.005em; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
h4 { font-size: .875rem; margin: 0 0 .25rem; font-weight: 600; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section, details { border: 0; padding: 0; margin: 2.25rem 0 0; }
section section, details section, section details { margin-top: 1.25rem; }
section p { max-width: 60rem; }
.scripted { margin-top: .8rem; } .toolbar.scripted { margin-top: 0; }
[hidden] { display: none !important; }
.faint, .facts { color: var(--faint); font-size: .875rem; }
ul.facts, nav ul { list-style: none; display: flex; flex-wrap: wrap; margin: 0; padding: 0; }
ul.facts { gap: .1rem .5rem; }
ul.facts li + li::before { content: "\\00b7"; margin-right: .5rem; }
nav { margin-top: .9rem; }
nav ul { gap: .15rem 1.1rem; font-size: .9375rem; }
summary { cursor: pointer; }
summary h2, summary h3 { display: inline; }
summary::marker { color: var(--faint); }
button, select {
  font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line);
  border-radius: .4rem; padding: .15rem .6rem;
}
.live button { cursor: pointer; }
.live button:hover { border-color: var(--faint); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.toolbar {
  position: sticky; top: 0; z-index: 3; display: flex; flex-wrap: wrap; gap: .5rem 1.5rem;
  align-items: center; padding: .6rem 1.5rem; margin: 0 -1.5rem; font-size: .875rem;
  background: var(--paper); border-bottom: 1px solid var(--line);
}
.toolbar div { display: flex; flex-wrap: wrap; gap: .3rem; align-items: center; }
.toolbar span { color: var(--faint); margin-right: .3rem; } .toolbar i { font-style: normal; }
.toolbar [aria-pressed=true] {
  background: var(--ink); color: var(--paper); border-color: var(--ink);
}
.points {
  list-style: none; margin: .6rem 0 0; padding: .9rem 1.1rem; background: var(--soft);
  border-radius: .6rem; display: grid; gap: .45rem;
}
.points b { margin-right: .35rem; }
.points li { max-width: 72rem; overflow-wrap: anywhere; }

/* tables */
.scroll {
  overflow-x: auto; margin-top: .8rem; width: max-content; max-width: 100%;
  border: 1px solid var(--line); border-radius: .6rem;
}
table { border-collapse: separate; border-spacing: 0; font-size: .8125rem; line-height: 1.35; }
.note { color: var(--faint); font-size: .8125rem; line-height: 1.4; margin: .4rem .1rem 0; }
th, td { padding: .28rem .6rem; text-align: left; font-weight: normal; vertical-align: middle; }
td { max-width: 34rem; overflow-wrap: break-word; }
thead th {
  color: var(--faint); vertical-align: bottom; border-bottom: 1px solid var(--line);
  background: var(--soft); max-width: 11rem;
}
tbody tr + tr > * { border-top: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
tbody.pinned > tr:last-child > * { border-bottom: 1px solid var(--line); }
tbody th { position: sticky; left: 0; background: var(--paper); z-index: 1; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
thead button {
  border: 0; padding: 0; background: none; text-align: inherit; color: inherit;
  border-radius: .2rem;
}
.live thead button:hover { color: var(--ink); }
[aria-sort] button { color: var(--ink); font-weight: 600; }
[aria-sort=descending] button::after { content: " \\2193"; }
[aria-sort=ascending] button::after { content: " \\2191"; }
.strong { font-weight: 650; }
td.faint { color: inherit; font-size: inherit; opacity: .75; }
.chosen { font-weight: 650; box-shadow: inset 0 0 0 2px var(--ink); }
.spanned { min-width: 17.5em; }
.ci { float: left; width: 5rem; height: .875rem; margin: .15em .5rem 0 0; }
.ci path { stroke: var(--faint); stroke-width: 2; }
.ci path.zero { stroke-width: 1; opacity: .6; }
.ci circle { fill: var(--faint); }
.ci.better path:not(.zero) { stroke: var(--good); } .ci.better circle { fill: var(--good); }
.ci.worse path:not(.zero) { stroke: var(--bad); } .ci.worse circle { fill: var(--bad); }
.method { white-space: nowrap; }
.swatch { width: .8rem; height: .8rem; vertical-align: -.08em; margin-right: .4rem; }
.swatch path { fill: var(--it); }
.role {
  font-size: .6875rem; color: var(--faint); border: 1px solid var(--line); border-radius: 1rem;
  padding: 0 .4rem; margin-left: .25rem;
}
.role.ours { color: var(--good); border-color: currentColor; }

.beside { display: flex; flex-wrap: wrap; gap: 0 2rem; }
.beside > section { min-width: 0; max-width: 100%; }

/* drawings */
.warm-0 { --it: var(--warm-0); } .warm-1 { --it: var(--warm-1); } .warm-2 { --it: var(--warm-2); }
.warm-3 { --it: var(--warm-3); } .cool-0 { --it: var(--cool-0); } .cool-1 { --it: var(--cool-1); }
.cool-2 { --it: var(--cool-2); } .cool-3 { --it: var(--cool-3); } .cool-4 { --it: var(--cool-4); }
.arm-0 { --it: var(--cool-0); } .arm-1 { --it: var(--warm-0); } .arm-2 { --it: var(--cool-1); }
.arm-3 { --it: var(--warm-2); } .arm-4 { --it: var(--warm-1); } .arm-5 { --it: var(--cool-2); }
.arm-6 { --it: var(--cool-3); } .arm-7 { --it: var(--cool-4); } .arm-8 { --it: var(--warm-3); }
.grey-0 { --it: var(--grey-0); } .grey-1 { --it: var(--grey-1); } .grey-2 { --it: var(--grey-2); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem; margin: .8rem 0 .2rem; }
.legend button {
  font-size: .8125rem; border-radius: 1rem; padding: .05rem .6rem;
  overflow-wrap: anywhere; text-align: left;
}
.legend [aria-pressed=false] { opacity: .45; text-decoration: line-through; }
.plots {
  display: grid; gap: .8rem; margin-top: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
}
.plot {
  width: 100%; max-width: 40rem; height: auto; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem;
}
.plot text { fill: var(--faint); font-size: 11.5px; }
.plot .heading { fill: var(--ink); font-size: 13px; font-weight: 600; }
.plot .end { text-anchor: end; } .plot .middle { text-anchor: middle; }
.grid { stroke: var(--line); opacity: .7; fill: none; }
.zero { stroke: var(--faint); fill: none; }
.line .path { stroke: var(--it); stroke-width: 2; fill: none; stroke-linejoin: round; }
.line[class*=grey] .path { stroke-width: 1.4; stroke-dasharray: 4 3; }
.line circle { fill: transparent; }
.line .dot { fill: var(--it); stroke: var(--card); stroke-width: 1; }
.mark.now .dot { stroke: var(--ink); stroke-width: 1.6; }
.whisker { stroke: var(--it); stroke-width: 1.5; opacity: 0; }
.line:hover .whisker, .mark:focus .whisker { opacity: .8; }
.line:hover .path { stroke-width: 3.5; }
.mark:focus { outline: none; } .mark:focus .dot { stroke: var(--ink); stroke-width: 2; }
.plot .label text { fill: var(--it); font-size: 11px; }
.leader { stroke: var(--it); opacity: .5; fill: none; }
.off { display: none; }
#tip {
  position: fixed; z-index: 9; max-width: min(26rem, calc(100vw - 1rem)); white-space: pre-line;
  background: var(--ink); color: var(--paper); font-size: .8125rem; line-height: 1.4;
  padding: .4rem .6rem; border-radius: .4rem; pointer-events: none;
}

/* answers, code, credits */
.asked { margin-top: 1rem; }
.prompt { font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }
.prompt .faint { font-weight: normal; margin-left: .5rem; }
.answers {
  display: grid; gap: .6rem; margin-top: .4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr));
}
.answer {
  border: 1px solid var(--line); border-radius: .6rem; padding: .6rem .8rem;
  background: var(--card);
}
.answer p { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .9375rem; }
.code { position: relative; margin-top: .8rem; }
pre {
  margin: 0; padding: .8rem 1rem; background: var(--soft); border-radius: .6rem; overflow-x: auto;
  font-size: .8125rem; line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere;
}
.copy { position: absolute; top: .45rem; right: .45rem; margin: 0; font-size: .75rem; }
.credits section { border-top: 1px solid var(--line); padding-top: 1rem; }
.credits h2 { font-size: 1rem; }

@media (max-width: 40rem) {
  body { padding: 0 1rem 3rem; font-size: 15px; }
  .toolbar {
    padding: .5rem 1rem; margin: 0 -1rem; flex-wrap: nowrap; overflow-x: auto; gap: .8rem;
  }
  .toolbar div, .toolbar label { flex-wrap: nowrap; white-space: nowrap; }
  .toolbar i { display: none; }
  h1 { font-size: 1.375rem; }
  .points { padding: .8rem; }
  tbody th { min-width: 7rem; max-width: 9.5rem; overflow-wrap: anywhere; }
  .method { white-space: normal; }
  tbody th .role { display: none; }
}
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .toolbar, .copy, nav, .scripted { display: none !important; }
  .scroll { overflow: visible; width: auto; } table { font-size: 7.5pt; }
  .plot, tr, .asked, .points li { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)
